// The Evaluate page: the list of evaluations, and the report of the chosen one. What runs does not depend on it.

const listBox = root.querySelector(".eval-list");
const detailBox = root.querySelector(".eval-detail");
const view = { runs: [], focus: null, shown: null, player: new Audio(), playing: null };
const rows = new Map();
let looking = null;
let busy = false;

function drawList() {
  listBox.replaceChildren(make("h2", "", "Evaluations"), make("p", "eval-empty", ""), make("div", "eval-runs"));
  listBox.querySelector(".eval-runs").setAttribute("role", "list");
}

function newRow(id) {
  const row = make("article", "eval-run");
  row.setAttribute("role", "listitem");
  const pieces = {
    row,
    name: button("", "eval-name", () => choose(id)),
    words: make("span", "eval-words"),
    state: make("span", "eval-state"),
    bar: make("progress"),
    left: make("span", "eval-left"),
    buttons: make("div", "eval-buttons"),
    why: make("p", "eval-why"),
    offered: "",
  };
  const about = make("div", "eval-about");
  about.append(pieces.name, pieces.words);
  const progress = make("div", "eval-progress");
  progress.append(pieces.bar, pieces.left);
  row.append(about, pieces.state, progress, pieces.buttons, pieces.why);
  rows.set(id, pieces);
  return pieces;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function minutes(seconds) {
  return seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
}

function showRun(run) {
  const pieces = rows.get(run.id) || newRow(run.id);
  pieces.row.dataset.state = run.state;
  pieces.row.toggleAttribute("aria-current", run.id === view.focus);
  put(pieces.name, run.name);
  put(pieces.words, run.words);
  put(pieces.state, run.state);
  const { stage, done, total, failed, seconds_left: left } = run.progress;
  pieces.bar.hidden = !total || !run.active;
  if (total) {
    pieces.bar.max = total;
    pieces.bar.value = done;
  }
  const counts = total ? `${stage} ${done}/${total}${failed ? `, ${failed} failed` : ""}` : "";
  put(pieces.left, run.active && total ? `${counts}${left ? ` · ${minutes(left)} left` : ""}` : run.active ? "" : failed ? `${failed} failed` : "");
  put(pieces.why, run.reason);
  pieces.why.hidden = !run.reason;
  const offered = run.active ? "stop" : run.state === "completed" ? "again delete" : "resume delete";
  if (pieces.offered !== offered) {
    pieces.offered = offered;
    const acts = {
      stop: () => button("Stop", "eval-plain", () => act("stop", { job: run.id }).then(tick)),
      resume: () => button("Resume", "eval-plain", () => act("resume", { job: run.id }).then(tick)),
      again: () => button("Retry failed", "eval-plain", () => act("resume", { job: run.id }).then(tick)),
      delete: () => button("Delete", "eval-plain", () => {
        if (confirm(`Delete ${run.name} with its recordings and reports?`)) act("delete", { job: run.id }).then(tick);
      }),
    };
    pieces.buttons.replaceChildren(...offered.split(" ").map((each) => acts[each]()));
  }
  const again = [...pieces.buttons.children].find((each) => each.textContent === "Retry failed");
  if (again) again.hidden = !failed;
  return pieces.row;
}

function showRuns() {
  const empty = listBox.querySelector(".eval-empty");
  empty.hidden = view.runs.length > 0;
  put(empty, "Nothing evaluated yet. Choose two checkpoints and press Start: both answer the same prompts with the same seeds, and the report says what became better, what worse, and how sure that is.");
  const box = listBox.querySelector(".eval-runs");
  const wanted = view.runs.map(showRun);
  if (wanted.length !== box.children.length || wanted.some((row, place) => box.children[place] !== row)) box.replaceChildren(...wanted);
}

async function choose(id) {
  view.focus = id;
  history.replaceState(null, "", `#evaluation=${id}`);
  showRuns();
  await showDetail();
}

async function showDetail() {
  const run = view.runs.find((each) => each.id === view.focus);
  const key = run ? `${run.id} ${run.report}` : "";
  if (view.shown === key) return;
  view.shown = key;
  view.player.pause();
  if (!run || !run.report) {
    detailBox.replaceChildren();
    return;
  }
  const answer = await call("report", { job: run.id });
  if (view.shown !== key) return;
  if (answer.error) {
    view.shown = null;
    return tell(answer.error);
  }
  const head = make("div", "eval-head");
  const foot = make("div", "eval-buttons");
  for (const [what, label] of [["html", "Download HTML"], ["json", "Download JSON"]]) {
    foot.append(button(label, "eval-plain", () => fetchReport(run.id, what)));
  }
  for (const name of run.checkpoints.slice(1)) {
    foot.append(button(`Add to the card of ${name}`, "eval-plain", () => act("card", { job: run.id, checkpoint: name })));
  }
  head.append(make("h2", "", run.words || run.name), foot);
  const report = make("div", "eval-report");
  report.innerHTML = answer.html; // escaped where it is made
  detailBox.replaceChildren(head, report);
}

async function fetchReport(job, what) {
  const answer = await act("download", { job, what });
  if (!answer) return;
  const link = make("a");
  link.href = `${(window.gradio_config?.root || "").replace(/\/$/, "")}/gradio_api/file=${encodeURI(answer.path)}`;
  link.download = answer.name;
  link.click();
}

detailBox.addEventListener("click", async (event) => {
  const pressed = event.target.closest("[data-sound]");
  if (!pressed) return;
  const before = view.playing;
  if (before) before.textContent = "▶";
  view.player.pause();
  view.playing = null;
  if (before === pressed) return;
  if (!pressed.dataset.url) {
    const answer = await act("sound", { job: view.focus, path: pressed.dataset.sound });
    if (!answer) return;
    pressed.dataset.url = `data:audio/wav;base64,${answer.wav}`;
  }
  view.player.src = pressed.dataset.url;
  view.playing = pressed;
  pressed.textContent = "❚❚";
  view.player.play().catch(() => tell("The browser did not play it."));
});
view.player.addEventListener("ended", () => {
  if (view.playing) view.playing.textContent = "▶";
  view.playing = null;
});

async function tick() {
  clearTimeout(looking);
  if (busy || !element.isConnected) return;
  busy = true;
  const answer = await call("watch");
  busy = false;
  if (answer.error) {
    tell(answer.error);
  } else {
    if (notice.textContent.startsWith("The connection was lost")) tell();
    const finished = answer.runs.find((run) => run.state === "completed" && view.runs.some((old) => old.id === run.id && old.active));
    if (finished) put(live, `${finished.name} is done.`);
    if (!view.runs.length && answer.runs.length) formBox.querySelector(".eval-card").open = false; // comes back to read
    view.runs = answer.runs;
    if (!view.runs.some((run) => run.id === view.focus)) view.focus = firstFocus();
    showRuns();
    await showDetail();
  }
  if (document.hidden) return;
  looking = setTimeout(tick, view.runs.some((run) => run.active) ? 2000 : 8000);
}

// The one that the address names, else the newest with a report, else the newest.
function firstFocus() {
  const named = new URLSearchParams(location.hash.slice(1)).get("evaluation");
  const run = view.runs.find((each) => each.id === named) || view.runs.find((each) => each.report) || view.runs[0];
  return run ? run.id : null;
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) tick(); });

async function start() {
  const answer = await call("hello");
  if (answer.error) {
    tell(answer.error);
    if (!answer.closed) formBox.replaceChildren(button("Try again", "eval-plain", start));
    return;
  }
  tell();
  drawForm(answer, (job) => { view.focus = job; tick(); });
  drawList();
  await tick();
  root.dataset.ready = "true";
}

start();
