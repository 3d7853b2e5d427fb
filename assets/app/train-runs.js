// The list of runs: state, progress, what became better, what can be done.

const runsBox = root.querySelector(".train-runs");
const rows = new Map(); // id -> pieces
let filter = "";

function drawRuns() {
  const head = make("div", "train-head");
  const search = make("input", "train-search");
  search.type = "search";
  search.placeholder = "Filter by name, state, recipe, note";
  search.setAttribute("aria-label", "Filter runs");
  search.addEventListener("input", () => { filter = search.value.toLowerCase(); sift(); });
  head.append(make("h2", "", "Runs"), search);
  runsBox.replaceChildren(head, make("div", "train-empty"), make("div", "train-list"));
  runsBox.querySelector(".train-list").setAttribute("role", "list");
}

function drawEmpty(described) {
  const box = runsBox.querySelector(".train-empty");
  const demo = button(`Start a ${described.demo.minutes}-minute demo`, "train-primary", async () => {
    demo.disabled = true;
    const answer = await act("demo");
    demo.disabled = false;
    if (answer) choose(answer.job, true);
  });
  demo.id = "train-demo";
  box.replaceChildren(
    make("h3", "", "Nothing trained yet."),
    make("p", "", `A demo post-trains ${described.demo.base} with WavAlign in about ${described.demo.minutes} minutes of this machine: ` +
      "it samples replies, rewards right answers, and keeps the speech with demonstrations. Watch the held-out figures, listen, then promote the result to Talk and the Arena."),
    demo,
  );
}

function newRow(id) {
  const row = make("article", "train-run");
  row.setAttribute("role", "listitem");
  row.dataset.run = id;
  const show = make("input");
  show.type = "checkbox";
  show.setAttribute("aria-label", "Show in the panels");
  show.addEventListener("change", () => overlay(id, show.checked));
  const chip = make("label", "train-chip");
  chip.append(show);
  const name = button("", "train-name", () => choose(id));
  const state = make("span", "train-state");
  const words = make("span", "train-words");
  const bar = make("progress");
  const progress = make("div", "train-progress");
  const left = make("span");
  progress.append(bar, left);
  const better = make("span", "train-figure");
  const worse = make("span", "train-figure");
  const buttons = make("div", "train-buttons");
  const about = make("div", "train-about");
  about.append(name, words);
  const why = make("p", "train-why");
  row.append(chip, about, state, progress, better, worse, buttons, why);
  const pieces = { row, chip, show, name, state, words, bar, left, better, worse, buttons, why, offered: "" };
  rows.set(id, pieces);
  return pieces;
}

function figure(node, label, value, unit, lowerIsBetter) {
  node.hidden = !value;
  if (!value) return;
  const sign = value.change > 0 ? "+" : "";
  say(node, `${label} ${value.now} ${unit} (${sign}${value.change})`);
  const good = lowerIsBetter ? value.change < 0 : value.change > 0;
  node.dataset.change = Math.abs(value.change) < 0.05 ? "none" : good ? "better" : "worse";
}

const STATES = { queued: "waits", starting: "loading", running: "running", stopping: "stopping", completed: "done", stopped: "stopped", failed: "failed", crashed: "crashed" };

function showRows() {
  const list = runsBox.querySelector(".train-list");
  root.classList.toggle("is-empty", state.runs.length === 0);
  runsBox.querySelector(".train-empty").hidden = state.runs.length > 0;
  runsBox.querySelector(".train-head").hidden = state.runs.length === 0;
  const seen = new Set(state.runs.map((run) => run.id));
  for (const [id, pieces] of rows) if (!seen.has(id)) { pieces.row.remove(); rows.delete(id); state.shown.delete(id); }
  state.runs.forEach((run, place) => {
    const pieces = rows.get(run.id) || newRow(run.id);
    if (list.children[place] !== pieces.row) list.insertBefore(pieces.row, list.children[place] || null);
    pieces.row.classList.toggle("is-focus", run.id === state.focus);
    pieces.row.dataset.state = run.state;
    const shown = state.shown.get(run.id);
    pieces.show.checked = Boolean(shown);
    pieces.chip.style.setProperty("--run", shown ? shown.colour : "transparent");
    say(pieces.name, run.name);
    say(pieces.words, [run.recipe, run.base, run.promoted && `promoted as ${run.promoted}`, run.notes && "✎"].filter(Boolean).join(" · "));
    say(pieces.state, run.place ? `waits, place ${run.place}` : STATES[run.state]);
    pieces.bar.max = run.steps || 1;
    if (run.state === "starting" && !run.step) pieces.bar.removeAttribute("value"); else pieces.bar.value = run.step;
    say(pieces.left, `step ${run.step}/${run.steps}${run.left ? ` · ${run.left}` : ""}`);
    figure(pieces.better, "right", run.semantic, "%", false);
    figure(pieces.worse, "WER", run.wer, "%", true);
    const why = run.reason || (run.state === "running" ? run.alarms[0] : "") || "";
    say(pieces.why, why);
    pieces.why.hidden = !why;
    offer(pieces, run);
  });
  sift();
}

function offer(pieces, run) {
  const waits = run.state === "queued";
  const active = ACTIVE.includes(run.state);
  const offered = [waits, active, run.asked, run.resumable, run.promotable, run.promoted, run.promotion?.state].join();
  if (offered === pieces.offered) return;
  pieces.offered = offered;
  const found = [];
  if (waits) found.push(button("Cancel", "train-plain", () => act("stop", { job: run.id }).then(tick)),
    button("Sooner", "train-plain", () => act("prefer", { job: run.id, more: true }).then(tick)),
    button("Later", "train-plain", () => act("prefer", { job: run.id, more: false }).then(tick)));
  if (active) found.push(button(run.asked ? "Stop at once" : "Stop", "train-plain train-stop", async () => {
    const sure = !run.asked || (await askBack("It is saving already. Stop at once and go on from the last checkpoint later?", "Stop at once", undefined, true));
    if (sure) act("stop", { job: run.id, at_once: Boolean(run.asked) }).then(tick);
  }));
  if (run.resumable) found.push(button("Resume", "train-plain", () => act("resume", { job: run.id }).then((answer) => answer && choose(run.id, true))));
  if (run.promotable && run.promotion?.state !== "measuring") found.push(button("Promote", "train-plain", () => promote(run.id)));
  if (!waits) found.push(button("Clone", "train-plain", () => cloneRun(run.id)));
  if (!active && !waits) found.push(button("Delete", "train-plain", () => remove(run.id)));
  pieces.buttons.replaceChildren(...found);
}

async function promote(id) {
  const run = lineOf(id);
  const name = await askBack("Name of the new checkpoint. It is measured on held-out questions first, then Talk and the Arena have it.", "Promote", run.name.replace(/-0*(\d+)$/, "-v$1"));
  if (name && (await act("promote", { job: id, name }))) { choose(id); tick(); }
}

async function remove(id) {
  const answer = await act("contents", { job: id });
  if (!answer) return;
  if (await askBack(`Delete ${answer.name}? ${answer.words}`, "Delete", undefined, true)) {
    state.shown.delete(id);
    await act("delete", { job: id });
    if (state.focus === id) state.focus = null;
    tick();
  }
}

function sift() {
  for (const run of state.runs) {
    const text = [run.name, run.state, run.recipe, run.base, run.notes, run.promoted].join(" ").toLowerCase();
    rows.get(run.id).row.hidden = !text.includes(filter);
  }
}

function overlay(id, on) {
  if (on && !state.shown.has(id)) {
    if (state.shown.size >= state.most) {
      tell(`At most ${state.most} runs are drawn together: take one away first.`);
      return showRows();
    }
    const taken = new Set([...state.shown.values()].map((each) => each.colour));
    state.shown.set(id, { colour: COLOURS.find((each) => !taken.has(each)) || COLOURS[0], version: null, traces: {} });
  } else if (!on) {
    state.shown.delete(id);
    drawPanels();
  }
  tick();
}

// Makes a run the one below; what was drawn before stays with ``alone`` false.
function choose(id, alone = false) {
  if (alone) state.shown.clear();
  state.focus = id;
  history.replaceState(null, "", `#run=${id}`);
  if (!state.shown.has(id)) overlay(id, true); else tick();
  showDetail(true);
}
