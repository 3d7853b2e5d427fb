// The Preferences page: counts, filters, the votes with both replies to listen to, and the export.
// What a person or a model said is set as text, never as markup.

const SHAPES = [
  ["battles", "Everything", "Every vote with both sides as they were heard, checks and exclusions with their reasons."],
  ["preference", "Chosen and rejected", "Votes that prefer a side: prompt, chosen, rejected, margin, audio of all three. For RewardTrainer and DPOTrainer."],
  ["unpaired", "Good or bad", "One reply a row, labelled. Both bad gives two bad ones. For KTOTrainer."],
];
const WHY_NOT = { gold: "check: one side was spoilt", repeat: "check: heard before, sides swapped", retracted: "taken back" };

const filter = { consent: "research", source: "human", pair: null, since: "", until: "", reliability: null };
let shape = "preference";
let lines = [];
let playing = null; // the players of the line that is open

const footLinks = () => [];
const erased = () => browse();

async function preferences(what, data = {}) {
  try {
    const answer = await server.preferences({ do: what, filter, ...data });
    if (answer && typeof answer === "object") return answer;
  } catch { /* told below */ }
  return { error: { code: "lost", message: "The connection was lost. Check it, then try again." } };
}

const head = make("section", "prefs-head");
const filters = make("form", "prefs-filters");
const table = make("section", "prefs-table");
const exporting = make("section", "arena-card prefs-export");

function field(name, node) {
  const label = make("label", "prefs-field");
  label.append(make("span", "", name), node);
  return label;
}

function select(options, value, chosen) {
  const node = make("select");
  for (const [key, text] of options) {
    const option = make("option", "", text);
    option.value = key;
    node.append(option);
  }
  node.value = value;
  node.addEventListener("change", () => { chosen(node.value); browse(); });
  return node;
}

function day(name) {
  const node = make("input");
  node.type = "date";
  node.value = filter[name];
  node.addEventListener("change", () => { filter[name] = node.value; browse(); });
  return node;
}

const pairs = select([["", "All"]], "", (value) => { filter.pair = value ? JSON.parse(value) : null; });
const consents = select([["research", "Any use"], ["publish", "Publish only"]], "research", (value) => { filter.consent = value; });
filters.append(
  field("Pair", pairs),
  field("From", day("since")),
  field("To", day("until")),
  field("Reliability", select([["", "All"], ["0.7", "0.7 or more"], ["0.8", "0.8 or more"], ["0.9", "0.9 or more"]], "", (value) => { filter.reliability = value ? Number(value) : null; })),
  field("Consent", consents),
  field("Votes of", select([["human", "People"], ["simulated", "Simulated raters"]], "human", (value) => { filter.source = value; }))
);
filters.addEventListener("submit", (event) => event.preventDefault());

function plural(count, one, many) {
  return count.toLocaleString("en") + " " + (count === 1 ? one : many);
}

function showHead(overview) {
  const title = make("h2", "", plural(overview.votes, "vote", "votes") + " by " + plural(overview.raters, "rater", "raters"));
  const simulated = filter.source === "simulated" ? make("span", "prefs-tag", "simulated") : null;
  if (simulated) title.append(" ", simulated);
  const words = [plural(overview.counted, "counts", "count") + " on the board"];
  for (const [reason, count] of Object.entries(overview.excluded)) words.push(count + " " + (WHY_NOT[reason] || reason));
  const mix = make("div", "prefs-mix");
  mix.setAttribute("role", "img");
  mix.setAttribute("aria-label", "Consent: " + overview.consent.publish + " to publish, " + overview.consent.research + " for research");
  for (const level of ["publish", "research"]) {
    if (!overview.consent[level]) continue;
    const part = make("span", level);
    part.style.flexGrow = overview.consent[level];
    mix.append(part);
  }
  const legend = make("p", "prefs-legend");
  legend.append(
    make("span", "publish", overview.consent.publish.toLocaleString("en") + " may be published"),
    make("span", "research", overview.consent.research.toLocaleString("en") + " for research here")
  );
  head.replaceChildren(title, make("p", "arena-hint", words.join(" · ")), mix, legend);
}

function showPairs(overview) {
  const now = filter.pair ? JSON.stringify(filter.pair) : "";
  const all = make("option", "", "All");
  all.value = "";
  pairs.replaceChildren(all, ...overview.pairs.map(([first, second, count]) => {
    const option = make("option", "", first + " / " + second + " (" + count + ")");
    option.value = JSON.stringify([first, second]);
    return option;
  }));
  pairs.value = now;
}

function silent() {
  if (!playing) return;
  playing.players.forEach((player) => player.stop());
  playing.box.remove();
  playing.button.setAttribute("aria-expanded", "false");
  playing = null;
}

async function listen(vote, item, pressed) {
  const same = playing && playing.button === pressed;
  silent();
  if (same) return;
  const answer = await preferences("listen", { battle: vote.battle });
  if (answer.error) return tell(answer.error.message);
  tell();
  const box = make("div", "prefs-listen");
  const players = answer.turns.map((turn) => {
    const asked = make("div", "arena-asked");
    asked.append(make("span", "arena-who", answer.turns.length > 1 ? "Asked, turn " + (turn.turn + 1) : "Asked"));
    if (turn.asked) asked.append(new Clip(turn.asked, "what was asked").button);
    asked.append(make("p", "", turn.words || "(spoken)"));
    const player = new ABPlayer(turn.turn, turn.audio, { reports() {}, switched: (side) => speak(NAMES[side]), started() {} });
    const both = make("div", "arena-both");
    for (const side of ["left", "right"]) {
      const text = make("p", "side-" + NAMES[side].toLowerCase());
      text.append(make("b", "", NAMES[side]), document.createTextNode(turn.text[side] || "(no words)"));
      both.append(text);
    }
    box.append(asked, player.node, both);
    return player;
  });
  if (vote.reason) box.append(make("p", "arena-hint", "Why: “" + vote.reason + "”"));
  item.append(box);
  pressed.setAttribute("aria-expanded", "true");
  playing = { players, box, button: pressed };
  players[0].draw();
  players[0].play();
}

function verdict(vote) {
  if (vote.choice === "both_bad") return "Both bad";
  if (vote.choice === 0) return "No difference";
  return ["", "slightly better", "better", "much better"][Math.abs(vote.choice)];
}

function line(vote) {
  const item = make("li", "prefs-line");
  const top = make("div", "prefs-row");
  const pressed = button("", "clip", () => listen(vote, item, pressed));
  pressed.innerHTML = PLAY_ICON;
  pressed.setAttribute("aria-label", "Listen to the replies to: " + (vote.words || "a spoken question"));
  pressed.setAttribute("aria-expanded", "false");
  const what = make("div", "prefs-what");
  what.append(make("p", "prefs-words", vote.words || "(spoken)"));
  const small = [new Date(1000 * vote.at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })];
  if (vote.turns > 1) small.push(vote.turns + " turns");
  small.push("rater " + vote.rater + ", reliability " + vote.reliability.toFixed(2));
  small.push(vote.consent === "publish" ? "may be published" : "for research");
  if (vote.source === "simulated") small.push("simulated");
  if (vote.excluded) small.push(WHY_NOT[vote.excluded] || vote.excluded);
  what.append(make("p", "arena-hint", small.join(" · ")));
  const sides = make("div", "prefs-sides");
  const winner = vote.choice === "both_bad" || vote.choice === 0 ? null : vote.choice > 0 ? "left" : "right";
  for (const side of ["left", "right"]) {
    const name = make("p", "side-" + NAMES[side].toLowerCase() + (winner === side ? " won" : ""));
    name.append(make("span", "badge", NAMES[side]), make("span", "", vote[side]));
    if (winner === side) name.append(make("em", "", verdict(vote)));
    sides.append(name);
  }
  if (!winner) sides.append(make("p", "prefs-none", verdict(vote)));
  top.append(pressed, what, sides);
  item.append(top);
  item.classList.toggle("excluded", !!vote.excluded);
  return item;
}

function showLines(more) {
  if (!lines.length) {
    const filtered = filter.pair || filter.since || filter.until || filter.reliability || filter.consent === "publish";
    const box = make("div", "arena-card arena-empty");
    box.append(
      make("h2", "", filtered ? "No vote matches." : "No votes yet."),
      make("p", "", filtered ? "Choose a wider filter." : "Every vote in the Arena becomes a row here, with what was asked and both replies to listen to.")
    );
    if (!filtered) {
      const link = make("a", "arena-primary prefs-link", "Open the Arena");
      link.href = "arena";
      box.append(link);
    }
    return table.replaceChildren(box);
  }
  const list = make("ol", "prefs-lines");
  list.append(...lines.map(line));
  table.replaceChildren(list);
  if (more) table.append(button("Show more", "arena-undo prefs-more", () => browse(lines.length)));
}

function showExport(overview) {
  const rows = overview.rows;
  const choices = make("div", "prefs-shapes");
  choices.setAttribute("role", "radiogroup");
  choices.setAttribute("aria-label", "Shape of the export");
  for (const [name, title, words] of SHAPES) {
    const label = make("label", "arena-level");
    const input = make("input");
    input.type = "radio";
    input.name = "prefs-shape";
    input.value = name;
    input.checked = name === shape;
    input.addEventListener("change", () => { shape = name; showExport(overview); });
    const text = make("span");
    text.append(make("strong", "", title + " · " + plural(rows[name], "row", "rows")), make("span", "", words));
    label.append(input, text);
    choices.append(label);
  }
  const preview = make("details", "arena-words prefs-preview");
  preview.append(make("summary", "", "Preview of one row"));
  const code = make("pre", "", "…");
  preview.append(code);
  preview.addEventListener("toggle", async () => {
    if (!preview.open) return;
    const answer = await preferences("preview", { shape });
    say(code, answer.error ? answer.error.message : answer.row || "No row has this shape yet.");
  });
  const download = button("Download parquet and card", "arena-primary", async () => {
    download.disabled = true;
    say(note, "Writing …");
    const answer = await preferences("export", { shape });
    download.disabled = !rows[shape];
    if (answer.error) return say(note, answer.error.message);
    say(note, answer.name + ": " + plural(answer.rows, "row", "rows") + ", " + answer.megabytes + " MB.");
    const link = make("a");
    const base = ((window.gradio_config && window.gradio_config.root) || "").replace(/\/$/, "");
    link.href = base + "/gradio_api/file=" + encodeURI(answer.path);
    link.download = answer.name;
    document.body.append(link);
    link.click();
    link.remove();
  });
  download.disabled = !rows[shape];
  const note = make("p", "arena-hint prefs-note");
  note.setAttribute("role", "status");
  const commands = make("details", "arena-words");
  commands.append(
    make("summary", "", "On the command line, or to the Hub"),
    make("pre", "", "python -m app.export write FOLDER --view " + shape + "\npython -m app.export push USER/NAME")
  );
  const bar = make("div", "arena-row");
  bar.append(download, note);
  exporting.replaceChildren(
    make("h3", "", "Take it along"),
    make("p", "arena-hint", "With the filters above. Loads with datasets.load_dataset; ties are in the first shape only."),
    choices, preview, bar, commands
  );
}

async function browse(first = 0) {
  silent();
  const answer = await preferences("browse", { first });
  if (answer.error) return tell(answer.error.message);
  tell();
  lines = first ? [...lines, ...answer.lines] : answer.lines;
  showHead(answer.overview);
  showPairs(answer.overview);
  showLines(answer.more);
  showExport(answer.overview);
  root.dataset.step = "ready";
}

async function start() {
  await footed();
  panel.replaceChildren(head, filters, table, exporting);
  const [answer] = await Promise.all([call("hello"), browse()]);
  if (answer.error) return tell(answer.error.message);
  arrived(answer);
}

window.addEventListener("pagehide", silence);
start();
