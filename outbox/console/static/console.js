// Comfort on top of pages that work without it: relative times, copying, keys, dark and light.
"use strict";

const each = (selector, act, root = document) => root.querySelectorAll(selector).forEach(act);

// Times, told as how long ago they were or how soon they come.
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function distance(seconds) {
  const [size, unit] = UNITS.find(([size]) => seconds >= size) ?? [1, "s"];
  return `${Math.floor(seconds / size)} ${unit}`;
}

function tellTimes() {
  each("time[datetime]", (time) => {
    const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
    time.textContent = seconds >= 0 ? `${distance(seconds)} ago` : `in ${distance(-seconds)}`;
  });
}

// Copying: the buttons are of use with a script alone.
function prepare(root) {
  each("button.copy", (button) => { button.hidden = !navigator.clipboard; }, root);
  each("#choose-all", (button) => { button.hidden = false; }, root);
  tellTimes();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.textContent = "copied";
  setTimeout(() => { button.textContent = "copy"; }, 1500);
});

document.addEventListener("click", (event) => {
  if (event.target.id === "choose-all") each('input[form="chosen"]', (box) => { box.checked = true; });
});

// Dark and light: as the system has it, until somebody chooses.
const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const chosen = localStorage.getItem("theme");
if (chosen) document.documentElement.dataset.theme = chosen;
theme.hidden = false;
theme.addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("theme", next);
});

// Keys: / finds, j and k go through rows, Enter opens one, ? tells of them.
function move(by) {
  const rows = [...document.querySelectorAll("table.rows tbody tr")];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.classList.contains("current"));
  rows[at]?.classList.remove("current");
  const next = rows[Math.min(rows.length - 1, Math.max(0, at + by))];
  next.classList.add("current");
  next.querySelector("a")?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const keys = {
    "/": () => document.getElementById("find")?.focus(),
    j: () => move(1),
    k: () => move(-1),
    "?": () => document.getElementById("keys")?.showModal(),
  };
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});

// Live: the server says that something has changed, and the page is read again; one may pause that.
const live = document.getElementById("live");
let paused = sessionStorage.getItem("live") === "paused";
let stale = false;

// Somebody is at it, or wants it to stay as it is.
function rests(main) {
  const busy = main.querySelector("form:focus-within, dialog[open], details[open], input:checked");
  return document.hidden || paused || Boolean(busy);
}

async function refresh() {
  const main = document.getElementById("main");
  stale = rests(main);
  if (stale) return;
  try {
    const answer = await fetch(location.href, { headers: { "X-Follows": "1" } });
    if (answer.redirected) return location.reload();
    const found = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
    stale = rests(main); // by now
    if (stale) return;
    const row = [...document.querySelectorAll("table.rows tbody tr")].findIndex((one) => one.classList.contains("current"));
    main.replaceChildren(...found.childNodes);
    document.querySelectorAll("table.rows tbody tr")[row]?.classList.add("current");
    prepare(main);
  } catch {
    live.textContent = "console away";
  }
}

function tellLive(state) {
  live.textContent = paused ? "paused" : state;
  live.setAttribute("aria-pressed", String(!paused));
}

if (live) {
  live.hidden = false;
  const events = new EventSource("/live");
  events.onopen = () => { tellLive("live"); refresh(); };
  events.onerror = () => tellLive("console away");
  events.addEventListener("changed", refresh);
  live.addEventListener("click", () => {
    paused = !paused;
    sessionStorage.setItem("live", paused ? "paused" : "");
    tellLive(events.readyState === EventSource.OPEN ? "live" : "console away");
    if (!paused) refresh();
  });
  document.addEventListener("visibilitychange", () => { if (stale) refresh(); });
}

// What waits until a moment, counted down.
function countDown() {
  each("[data-until]", (one) => {
    const left = Math.ceil((Date.parse(one.dataset.until) - Date.now()) / 1000);
    const told = one.querySelector(".left");
    if (told) told.textContent = left > 0 ? `(${left} s left)` : "(any moment now)";
  });
}

prepare(document);
setInterval(countDown, 1000);
setInterval(tellTimes, 1000);
