// The button beside a URL that is to be handed to a vendor. Without JavaScript it stays hidden.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("button[data-bi-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.dataset.biCopy);
      button.textContent = button.dataset.biCopied;
    });
  }
});
