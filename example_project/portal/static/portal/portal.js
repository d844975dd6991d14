// Keeps the page up to date: fetches the fragment every second and replaces the parts that changed.
"use strict";

(() => {
  const live = document.querySelector("[data-live-url]");
  if (!live) return;

  const INTERVAL = 1000;
  const LONGEST_WAIT = 10000;
  const pulse = document.querySelector("[data-pulse]");
  const announcer = document.querySelector("[data-announce]");
  const relative = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "auto", style: "short" });
  const exact = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "medium" });

  let etag = "";
  let failures = 0;
  let timer = 0;
  let isFetching = false;
  let parts = partsOf(live);
  let newest = newestActivity(live);

  // The parts as the server sent them. They are compared as text, because the script changes times and classes later.
  function partsOf(root) {
    return new Map([...root.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part.outerHTML]));
  }

  function newestActivity(root) {
    return Number(root.querySelector("[data-activity]")?.dataset.activity ?? 0);
  }

  function show(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    const fresh = partsOf(template.content);
    const sameParts = [...fresh.keys()].join() === [...parts.keys()].join();
    const focused = live.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const latest = newestActivity(template.content);

    for (const entry of template.content.querySelectorAll("[data-activity]")) {
      if (Number(entry.dataset.activity) > newest) entry.classList.add("is-new");
    }
    for (const part of template.content.querySelectorAll(".card")) {
      if (parts.get(part.dataset.part) !== fresh.get(part.dataset.part)) part.classList.add("is-new");
    }
    const news = [...template.content.querySelectorAll("[data-activity].is-new [data-text]")];
    if (sameParts) {
      for (const part of template.content.querySelectorAll("[data-part]")) {
        const name = part.dataset.part;
        if (parts.get(name) !== fresh.get(name)) live.querySelector(`[data-part="${name}"]`).replaceWith(part);
      }
    } else {
      live.replaceChildren(template.content);
    }
    if (news.length) announcer.textContent = news.slice(0, 3).map((entry) => entry.textContent).join(". ");
    if (focused && !live.contains(document.activeElement)) {
      live.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    }
    parts = fresh;
    newest = Math.max(newest, latest);
    updateTimes();
  }

  function updateTimes() {
    for (const time of live.querySelectorAll("time[datetime]")) {
      const moment = new Date(time.dateTime);
      const seconds = Math.min(0, Math.round((moment - Date.now()) / 1000));
      const [unit, size] = [["day", 86400], ["hour", 3600], ["minute", 60]].find(([, size]) => -seconds >= size) ?? ["second", 1];
      const text = relative.format(Math.ceil(seconds / size), unit);
      if (time.textContent !== text) time.textContent = text;
      time.title = exact.format(moment);
    }
  }

  function updateState() {
    pulse.hidden = false;
    pulse.classList.toggle("is-lost", failures > 0);
    const text = failures > 0 ? pulse.dataset.lost : pulse.dataset.live;
    if (pulse.textContent !== text) pulse.textContent = text;
  }

  async function refresh() {
    if (isFetching) return;
    isFetching = true;
    try {
      // Without the browser's cache, so that a 304 is visible here and nothing has to be parsed.
      const response = await fetch(live.dataset.liveUrl, {
        cache: "no-store",
        headers: etag ? { "If-None-Match": etag } : {},
        signal: AbortSignal.timeout(LONGEST_WAIT),
      });
      if (response.status !== 304) {
        if (!response.ok) throw new Error(`status ${response.status}`);
        show(await response.text());
        etag = response.headers.get("ETag") ?? "";
      }
      failures = 0;
    } catch {
      failures += 1;
    }
    isFetching = false;
    updateState();
    schedule();
  }

  function schedule() {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(refresh, Math.min(INTERVAL * 2 ** failures, LONGEST_WAIT));
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else refresh();
  });

  updateTimes();
  setInterval(updateTimes, 10000);
  updateState();
  schedule();
})();
