"""``python -m promptplus``."""

from promptplus.cli import main

if __name__ == "__main__":
    main()
