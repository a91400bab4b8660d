// gradio gives: element, props, trigger, watch. The value is {key: text}; keys are bands and layers.
const place = () => element.querySelector(".texts");
const rows = () => [...element.querySelectorAll(".text")];
const button = (key) => element.querySelector(`[data-key="${CSS.escape(key)}"]`);
const current = () => Object.fromEntries(rows().map((row) => [row.dataset.for, row.querySelector("input").value]));

function publish() {
  props.value = current();
  trigger("change");
}

function open(key, text) {
  const pressed = button(key);
  if (!pressed || rows().some((row) => row.dataset.for === key)) return null;
  pressed.setAttribute("aria-pressed", "true");
  const row = document.createElement("div");
  row.className = "text";
  row.dataset.for = key;
  const label = document.createElement("label");
  label.textContent = `Text for the ${pressed.dataset.label}`;
  const input = document.createElement("input");
  input.id = `${element.id || "layers"}-${key}`;
  input.value = text;
  label.htmlFor = input.id;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "close";
  close.textContent = "✕";
  close.setAttribute("aria-label", `Remove the text for the ${pressed.dataset.label}`);
  row.append(label, input, close);
  place().append(row);
  return input;
}

function shut(key) {
  rows().filter((row) => row.dataset.for === key).forEach((row) => row.remove());
  button(key)?.setAttribute("aria-pressed", "false");
}

function show(value) {
  rows().forEach((row) => shut(row.dataset.for));
  Object.entries(value || {}).forEach(([key, text]) => open(key, text));
}

element.addEventListener("click", (event) => {
  const close = event.target.closest(".close");
  const pressed = event.target.closest("[data-key]");
  if (close) {
    const key = close.closest(".text").dataset.for;
    shut(key);
    button(key)?.focus();
    publish();
  } else if (pressed) {
    const key = pressed.dataset.key;
    const input = open(key, "");
    if (!input) shut(key);
    publish();
    element.querySelector(`.text[data-for="${CSS.escape(key)}"] input`)?.focus();
  }
});
element.addEventListener("input", publish);
element.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.tagName === "INPUT") trigger("submit");
});
watch("value", () => {
  if (JSON.stringify(props.value || {}) !== JSON.stringify(current())) show(props.value);
});
show(props.value);
