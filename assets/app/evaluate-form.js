// What the parts of the Evaluate page share, and the form: who is compared, on what, how much.

const root = element.querySelector(".evaluate");
const notice = root.querySelector(".eval-alert");
const live = root.querySelector(".eval-live");
const formBox = root.querySelector(".eval-form");

function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

function button(text, name, act) {
  const node = make("button", name, text);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

async function call(what, data = {}) {
  try {
    const answer = await server.evaluate({ do: what, ...data });
    return answer && typeof answer === "object" ? answer : { error: "No answer came back. Try again." };
  } catch {
    return { error: "The connection was lost; evaluations go on without it. Trying again …", lost: true };
  }
}

function tell(message, good) {
  notice.hidden = !message;
  notice.dataset.kind = good ? "good" : "trouble";
  notice.textContent = message || "";
}

async function act(what, data) {
  const answer = await call(what, data);
  tell(answer.error || answer.said, !answer.error);
  return answer.error ? null : answer;
}

function field(label, input, hint) {
  const box = make("label", "eval-field");
  box.append(make("span", "eval-label", label), input);
  if (hint) box.append(make("span", "eval-hint", hint));
  return box;
}

function textInput(name, value = "", placeholder = "") {
  const input = make("input");
  input.type = "text";
  input.name = name;
  input.value = value;
  input.placeholder = placeholder;
  return input;
}

function pills(legend, names, ticked, hints = {}) {
  const box = make("fieldset", "eval-pills");
  box.append(make("legend", "eval-label", legend));
  for (const name of names) {
    const pill = make("label", "eval-pill");
    const input = make("input");
    input.type = "checkbox";
    input.value = name;
    input.checked = ticked.includes(name);
    if (hints[name]) pill.title = hints[name];
    pill.append(input, make("span", "", name));
    box.append(pill);
  }
  box.chosen = () => [...box.querySelectorAll("input:checked")].filter((each) => !each.disabled).map((each) => each.value);
  return box;
}

function drawForm(offered, started) {
  const card = make("details", "eval-card");
  card.open = true;
  card.append(make("summary", "", "Compare checkpoints"));
  const form = make("form");
  const base = make("select");
  base.name = "baseline";
  for (const name of offered.checkpoints) base.append(new Option(name, name, name === offered.baseline, name === offered.baseline));
  const others = pills("with", offered.checkpoints, offered.checkpoints.filter((name) => name !== offered.baseline).slice(-1));
  const about = Object.fromEntries(offered.tasks.map((task) => [task.name, task.about]));
  const tasks = pills("on", offered.tasks.map((task) => task.name), ["closedtalk"], about);
  const dataBox = make("div", "eval-grid");
  const places = new Map();
  for (const task of offered.tasks.filter((each) => !each.shipped)) {
    const input = textInput(`data-${task.name}`, "", task.hub);
    const box = field(`Data of ${task.name}`, input, "not shipped: a folder on this machine, or its hub id");
    box.hidden = true;
    places.set(task.name, { box, input });
    dataBox.append(box);
  }
  const sift = () => {
    for (const input of others.querySelectorAll("input")) {
      input.disabled = input.value === base.value;
      input.closest("label").hidden = input.disabled;
    }
    for (const [name, { box }] of places) box.hidden = !tasks.chosen().includes(name);
  };
  base.addEventListener("change", sift);
  tasks.addEventListener("change", sift);
  const limit = textInput("limit", String(offered.prompts));
  const samples = textInput("samples", "1");
  const seed = textInput("seed", "0");
  const heat = textInput("temperature", "", "each base's own");
  const ears = textInput("recogniser", "embedded");
  const url = textInput("judge_url", "", "https://host/v1");
  const model = textInput("judge_model");
  const quality = make("input");
  quality.type = "checkbox";
  quality.checked = true;
  const quantities = make("div", "eval-grid");
  quantities.append(
    field("Prompts of each task", limit, "empty: all"),
    field("Replies to each prompt", samples, "each with a sampling seed of its own"),
  );
  const more = make("details", "eval-more");
  const grid = make("div", "eval-grid");
  const switchBox = make("label", "eval-switch");
  switchBox.append(quality, make("span", "", "DNSMOS: predicted opinions of the sound, about a second of CPU a reply"));
  grid.append(
    field("Seed", seed, "of prompts, sampling and intervals"),
    field("Temperature", heat, "of words"),
    field("Recogniser", ears, "embedded, none, or a Whisper checkpoint on this machine"),
    field("Judge's address", url, "OpenAI-compatible, for what no rule can score; key in WAVALIGN_JUDGE_API_KEY"),
    field("Judge's model", model),
    switchBox,
  );
  more.append(make("summary", "", "Sampling, recogniser, judge"), grid);
  const go = make("button", "eval-primary", "Start");
  go.id = "evaluate-start";
  form.append(field("Compare", base, "the others are measured against this one"), others, tasks, dataBox, quantities, more, go);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    const data = Object.fromEntries([...places].filter(([, { box }]) => !box.hidden).map(([name, { input }]) => [name, input.value]));
    const answer = await act("start", {
      checkpoints: [base.value, ...others.chosen()],
      tasks: tasks.chosen(),
      limit: limit.value, samples: samples.value, seed: seed.value, temperature: heat.value,
      recogniser: ears.value, judge_url: url.value, judge_model: model.value, dnsmos: quality.checked, data,
    });
    go.disabled = false;
    if (answer) started(answer.job);
  });
  card.append(form);
  formBox.replaceChildren(card);
  sift();
}
