// Colours the tokens by the expert that is first in the chosen layer, or in most layers.
const all = document.getElementById("all");
const layer = document.getElementById("layer");
const shown = document.getElementById("shown");
const tokens = [...document.querySelectorAll(".text .t")].map((span) => {
  const experts = span.dataset.e.split(",").map(Number);
  return { span, experts, main: span.className };
});
const COLOURS = 8;

function colour() {
  shown.textContent = all.checked ? "–" : layer.value;
  for (const { span, experts, main } of tokens) {
    span.className = all.checked ? main : "t e" + (experts[layer.value] % COLOURS);
  }
}

all.addEventListener("input", colour);
layer.addEventListener("input", () => {
  all.checked = false;
  colour();
});
colour();
