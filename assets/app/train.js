// The Train page: says hello, then looks again and again while the page is seen. What runs does not depend on it.

let looking = null;
let busy = false;

async function tick() {
  clearTimeout(looking);
  if (busy || !element.isConnected) return;
  busy = true;
  const shown = [...state.shown].map(([id, each]) => ({ id, colour: each.colour, version: each.version }));
  const answer = await call("watch", { shown, memory: state.memory });
  busy = false;
  if (answer.error) {
    tell(answer.error);
  } else {
    if (notice.textContent.startsWith("The connection was lost")) tell();
    if (answer.trouble) tell(answer.trouble);
    else if (notice.textContent.startsWith("Jobs cannot be looked after")) tell();
    const first = !state.runs.length;
    state.runs = answer.runs;
    if (first && state.runs.length) {
      firstRun();
      formBox.querySelector(".train-card").open = false; // who comes back comes to watch
    }
    showRows();
    takeCurves(answer.curves);
    showDetail();
    const missing = [...state.shown].some(([id, each]) => each.version === null && !(id in answer.curves) && lineOf(id));
    if (missing) return tick();
    if (answer.behind && !state.paused) return void (looking = setTimeout(tick, 100)); // long runs are still being read
  }
  if (state.paused || document.hidden) return;
  const moving = state.runs.some((run) => ACTIVE.includes(run.state) || run.state === "queued" || run.promotion?.state === "measuring");
  looking = setTimeout(tick, moving ? 2000 : 8000);
}

// The run that the address names, else one that runs, else the newest.
function firstRun() {
  if (state.focus && lineOf(state.focus)) return;
  const named = new URLSearchParams(location.hash.slice(1)).get("run");
  const run = lineOf(named) || state.runs.find((each) => ACTIVE.includes(each.state)) || state.runs[0];
  state.focus = run.id;
  state.shown.set(run.id, { colour: COLOURS[0], version: null, traces: {} });
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && !state.paused) tick(); });

async function start() {
  const answer = await call("hello");
  if (answer.error) {
    tell(answer.error);
    if (!answer.closed) formBox.replaceChildren(button("Try again", "train-plain", start));
    return;
  }
  tell();
  state.most = answer.most;
  drawRuns();
  drawEmpty(answer.form);
  drawForm(answer.form);
  drawDetail(answer.panels);
  await tick();
  root.dataset.ready = "true";
}

start();
