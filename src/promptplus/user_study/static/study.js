"use strict";
// Keys for the three answers, and a vote that is sent again until the server has it. Without this, the form works too.
const form = document.getElementById("vote");
const said = document.getElementById("status");
const KEYS = { "1": "A", arrowleft: "A", a: "A", "2": "B", arrowright: "B", b: "B", "0": "tie", " ": "tie", t: "tie" };
const RETRY_MS = 1000;
let sent = false;

async function send(answer) {
  if (sent) return; // the first answer counts
  sent = true;
  const body = new URLSearchParams(new FormData(form));
  body.set("answer", answer);
  for (;;) {
    try {
      const reply = await fetch(form.action, { method: "POST", body, redirect: "manual" });
      if (reply.status !== 503) break;
    } catch {
      // the server cannot be reached: try again
    }
    said.textContent = "The server cannot be reached. Your answer is kept and sent again …";
    await new Promise((done) => setTimeout(done, RETRY_MS));
  }
  location.replace("/vote");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send(event.submitter.value);
});

document.addEventListener("keydown", (event) => {
  const onControl = event.target.closest("button, a, input") && event.key === " "; // a space presses a focused button
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || onControl) return;
  const answer = KEYS[event.key.toLowerCase()];
  if (!answer) return;
  event.preventDefault();
  send(answer);
});
