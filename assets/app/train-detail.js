// The chosen run below the list: alarms, panels, recordings, log, notes, what differs from another.

const detail = root.querySelector(".train-detail");
let detailed = null; // the run that is drawn
let tab = "panels";
let playing = null;
const TABS = [["panels", "Panels"], ["listen", "Listen"], ["log", "Log"], ["about", "Notes and differences"]];

function drawDetail(panels) {
  const head = make("div", "train-head");
  head.append(make("h2", "train-title"), make("div", "train-buttons train-detail-buttons"));
  const alarms = make("ul", "train-alarms");
  const tabs = make("div", "train-tabs");
  tabs.setAttribute("role", "tablist");
  for (const [id, label] of TABS) {
    const one = button(label, "train-tab", () => { tab = id; showDetail(true); });
    one.dataset.tab = id;
    one.setAttribute("role", "tab");
    tabs.append(one);
  }
  detail.replaceChildren(head, make("p", "train-promotion"), alarms, tabs);
  for (const [id] of TABS) {
    const page = make("div", "train-page");
    page.dataset.page = id;
    detail.append(page);
  }
  makePanels(panels, detail.querySelector("[data-page=panels]"));
  detail.hidden = true;
}

const pageOf = (id) => detail.querySelector(`[data-page=${id}]`);

function showDetail(fresh = false) {
  const run = lineOf(state.focus);
  detail.hidden = !run;
  if (!run) return;
  const other = detailed !== run.id;
  detailed = run.id;
  say(detail.querySelector(".train-title"), run.name);
  if (other) detail.querySelector(".train-detail-buttons").replaceChildren(button("Download the run", "train-plain", () => fetchRun(run.id)));
  const promoted = detail.querySelector(".train-promotion");
  promoted.hidden = !run.promotion;
  if (run.promotion) { say(promoted, run.promotion.words); promoted.dataset.state = run.promotion.state; }
  const alarms = detail.querySelector(".train-alarms");
  if (alarms.dataset.said !== run.alarms.join("|")) {
    alarms.dataset.said = run.alarms.join("|");
    alarms.replaceChildren(...run.alarms.map((each) => make("li", "", each)));
  }
  for (const one of detail.querySelectorAll(".train-tab")) one.setAttribute("aria-selected", one.dataset.tab === tab);
  for (const page of detail.querySelectorAll(".train-page")) page.hidden = page.dataset.page !== tab;
  if (tab === "listen" && (fresh || other || pageOf("listen").dataset.step !== String(run.step))) listen(run);
  if (tab === "log" && (fresh || other || ACTIVE.includes(run.state) || pageOf("log").dataset.state !== run.state)) log(run);
  if (tab === "about" && (fresh || other)) about(run);
  if (tab === "panels" && fresh) drawPanels();
}

async function fetchRun(id) {
  tell("Packing …", "good");
  const answer = await act("download", { job: id });
  if (!answer) return;
  tell(`${answer.name}, ${answer.megabytes} MB`, "good");
  const base = (window.gradio_config?.root || "").replace(/\/$/, "");
  download(answer.name, base + "/gradio_api/file=" + encodeURI(answer.path));
}

async function listen(run) {
  const page = pageOf("listen");
  page.dataset.step = String(run.step);
  const answer = await call("listen", { job: run.id });
  if (answer.error || run.id !== state.focus) return;
  const mark = run.id + answer.steps.join();
  if (page.dataset.mark === mark) return;
  page.dataset.mark = mark;
  if (!answer.rows.length) return page.replaceChildren(make("p", "train-hint", "Nothing recorded yet: the first evaluation records the same prompts as all later ones."));
  const table = make("table", "train-listen");
  const head = make("tr");
  head.append(make("th", "", "Prompt"));
  answer.steps.forEach((step, place) => head.append(make("th", "", place === 0 && step === 0 ? "base" : `step ${step}`)));
  table.append(head);
  for (const row of answer.rows) {
    const line = make("tr");
    line.append(make("th", "", row.question || row.id));
    row.cells.forEach((cell, place) => line.append(cellOf(run, cell, answer.steps[place])));
    table.append(line);
  }
  const frame = make("div", "train-scroll");
  frame.tabIndex = 0;
  frame.append(table);
  page.replaceChildren(make("p", "train-hint", "The same held-out prompts with the same seeds, at every evaluation."), frame);
}

function cellOf(run, cell, step) {
  const box = make("td");
  if (!cell) return box;
  const play = button("▶", "train-play", async () => {
    if (playing) { playing.audio.pause(); say(playing.play, "▶"); const same = playing.play === play; playing = null; if (same) return; }
    const answer = await act("sound", { job: run.id, step, file: cell.file });
    if (!answer) return;
    const audio = new Audio("data:audio/wav;base64," + answer.wav);
    playing = { audio, play };
    say(play, "■");
    audio.addEventListener("ended", () => { say(play, "▶"); playing = null; });
    audio.play();
  });
  play.setAttribute("aria-label", `Play, step ${step}: ${cell.text}`);
  const facts = [`${cell.seconds} s`];
  if (cell.words) facts.push(`WER ${Math.round((100 * cell.errors) / cell.words)} %`);
  if (cell.delivery) facts.push(cell.nearest === cell.delivery ? cell.delivery : `${cell.delivery}, sounds ${cell.nearest}`);
  const words = make("span", "train-said", cell.text || "(no words)");
  if (cell.heard !== null) words.title = `heard: ${cell.heard}`;
  box.append(play, words, make("span", "train-hint", facts.join(" · ")));
  return box;
}

async function log(run) {
  const page = pageOf("log");
  page.dataset.state = run.state;
  const answer = await call("log", { job: run.id });
  if (answer.error || run.id !== state.focus) return;
  let text = page.querySelector("pre");
  if (!text) { text = make("pre", "train-log"); text.tabIndex = 0; page.replaceChildren(text); }
  const end = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
  if (text.textContent !== answer.text) {
    text.textContent = answer.text || "Nothing printed yet.";
    if (end) text.scrollTop = text.scrollHeight;
  }
}

function about(run) {
  const page = pageOf("about");
  const notes = make("textarea", "train-notes");
  notes.value = run.notes;
  notes.rows = 4;
  notes.setAttribute("aria-label", "Notes");
  notes.placeholder = "Notes about this run";
  notes.addEventListener("change", () => act("note", { job: run.id, text: notes.value }).then(tick));
  const other = make("select");
  other.setAttribute("aria-label", "Another run");
  for (const each of state.runs) if (each.id !== run.id) other.append(new Option(each.name, each.id));
  if (run.parent && lineOf(run.parent)) other.value = run.parent;
  const table = make("table", "train-differences");
  const compare = async () => {
    if (!other.value) return;
    const answer = await call("compare", { one: run.id, other: other.value });
    if (answer.error) return tell(answer.error);
    const head = make("tr");
    for (const title of ["Field", ...answer.names]) head.append(make("th", "", title));
    table.replaceChildren(head, ...answer.rows.map((row) => { const line = make("tr"); line.append(...row.map((each) => make("td", "", each))); return line; }));
    if (!answer.rows.length) table.replaceChildren(make("caption", "", "Their configs are the same."));
  };
  other.addEventListener("change", compare);
  const against = make("label", "train-field", "Differences from ");
  against.append(other);
  page.replaceChildren(make("h3", "", "Notes"), notes, ...(state.runs.length > 1 ? [make("h3", "", "Config"), against, table] : []));
  compare();
}
