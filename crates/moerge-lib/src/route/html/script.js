// Colours the tokens by the expert that is first in the chosen layer, or in most layers.
const layer = document.getElementById("layer");
const shown = document.getElementById("shown");
const tokens = [...document.querySelectorAll(".text .t")].map((span) => {
  const experts = span.dataset.e.split(",").map(Number);
  return { span, experts, main: span.className };
});
const COLOURS = 8;

function colour() {
  const chosen = layer.value - 1; // at 0 all layers
  shown.textContent = chosen < 0 ? "all layers" : "layer " + chosen;
  for (const { span, experts, main } of tokens) {
    span.className = chosen < 0 ? main : "t e" + (experts[chosen] % COLOURS);
  }
}

layer.addEventListener("input", colour);
colour();
