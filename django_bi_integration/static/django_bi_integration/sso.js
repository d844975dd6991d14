// Ignore the second click of a double click on a link to Big Interview: it would start a second launch.
"use strict";

(() => {
  if (document.documentElement.dataset.biSso) return; // a page may have several buttons, each with this script
  document.documentElement.dataset.biSso = "1";
  const PAUSE = 4000;

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-bi-sso]");
    if (!link) return;
    if (link.getAttribute("aria-busy") === "true") {
      event.preventDefault();
      return;
    }
    link.setAttribute("aria-busy", "true");
    setTimeout(() => link.removeAttribute("aria-busy"), PAUSE);
  });
  // The browser's back button restores the page as it was left: enable the links again.
  addEventListener("pageshow", () => {
    for (const link of document.querySelectorAll("a[data-bi-sso]")) link.removeAttribute("aria-busy");
  });
})();
