"""The browser studio: ``promptplus studio``. It needs the extra ``ui``, and only listens on this machine."""
