"use strict";
// Puts what the server sends into the page; the server has escaped it. The page is whole without this.
(() => {
  const url = document.body.dataset.events;
  const logs = () => document.querySelectorAll(".log");
  const atEnd = (log) => log.scrollTop + log.clientHeight >= log.scrollHeight - 24;
  logs().forEach((log) => { log.scrollTop = log.scrollHeight; });

  let source, place = "";
  const open = () => {
    if (!url || source || document.hidden) return;
    source = new EventSource(place ? url.replace(/at=[^&]*/, "at=" + encodeURIComponent(place)) : url);
    source.addEventListener("log", (event) => {
      const [id, html] = JSON.parse(event.data);
      place = event.lastEventId || place;
      const log = document.getElementById(id);
      if (!log) return location.reload(); // the first line of another host
      const follows = atEnd(log);
      log.insertAdjacentHTML("beforeend", html);
      if (follows) log.scrollTop = log.scrollHeight;
    });
    source.addEventListener("part", (event) => {
      const [id, html] = JSON.parse(event.data);
      const old = document.getElementById(id);
      if (!old || old.outerHTML === html) return;
      const focused = document.activeElement, label = focused?.getAttribute("href") || focused?.value;
      const checked = [...old.querySelectorAll(":checked")].map((box) => box.value);
      const inside = old.contains(focused);
      old.outerHTML = html;
      const fresh = document.getElementById(id);
      fresh?.querySelectorAll("input").forEach((box) => { box.checked = checked.includes(box.value); });
      if (inside && label) fresh?.querySelector(`[href="${CSS.escape(label)}"],[value="${CSS.escape(label)}"]`)?.focus();
    });
    source.addEventListener("end", () => { close(); place = "end"; });
  };
  const close = () => { source?.close(); source = undefined; };
  // A browser has six connections to a server; a tab that nobody sees leaves them to others.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : place === "end" || open()));
  open();

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
    if (typing) return;
    const search = document.querySelector("input[type=search]");
    const names = [...document.querySelectorAll(".jobs .name a")];
    const at = names.indexOf(document.activeElement);
    if (event.key === "/" && search) { event.preventDefault(); search.focus(); }
    else if (event.key === "j" && names.length) names[Math.min(at + 1, names.length - 1)].focus();
    else if (event.key === "k" && names.length) names[Math.max(at - 1, 0)].focus();
    else if (event.key === "x" && at >= 0) names[at].closest("tr").querySelector("input").click();
    else if (event.key === "u") document.querySelector("nav a").click();
  });
})();
