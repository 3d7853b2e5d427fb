// The form of a new job. Its fields come from the config's schema; what is typed goes back as text by path.

const form = { described: null, plain: {}, values: {}, changes: {}, recipe: "", parent: null, problems: {}, yaml: "" };
const formBox = root.querySelector(".train-form");
const inputs = new Map(); // path -> {field, box, input, hint}
const extra = {}; // what is not part of the config: budget in minutes, launcher, ...
let checking = null;

const current = (path) => (path in form.changes ? form.changes[path] : form.values[path]);
const visible = (field) => field.when.every(([path, kind]) => current(path) === kind);

function fieldBox(field) {
  const box = make("label", "train-field");
  box.dataset.path = field.path;
  const title = make("span", "train-label", field.label);
  const input = inputOf(field);
  const hint = make("span", "train-hint", [field.help, field.limits && `(${field.limits})`].filter(Boolean).join(" "));
  const wrong = make("span", "train-wrong");
  wrong.setAttribute("role", "alert");
  wrong.hidden = true;
  if (field.kind === "switch") box.append(input, title, hint, wrong);
  else box.append(title, input, hint, wrong);
  box.classList.toggle("train-switch", field.kind === "switch");
  inputs.set(field.path + JSON.stringify(field.when), { field, box, input, wrong });
  return box;
}

function inputOf(field) {
  if (field.path === "rewards.weights") return weightsOf(field);
  const options = field.path === "base" ? form.described.bases : field.choices;
  const node = make(options.length ? "select" : "input");
  if (options.length) for (const each of options) node.append(new Option(each || "–", each));
  else {
    node.type = field.kind === "switch" ? "checkbox" : "text";
    if (["int", "float"].includes(field.kind)) node.inputMode = "decimal";
    node.spellcheck = false;
    node.autocomplete = "off";
    if (field.optional) node.placeholder = "default";
  }
  node.addEventListener(field.kind === "switch" || options.length ? "change" : "input", () => {
    change(field.path, field.kind === "switch" ? String(node.checked) : node.value);
  });
  return node;
}

// One small weight beside each reward; empty means that it is not used.
function weightsOf(field) {
  const node = make("span", "train-weights");
  for (const name of form.described.rewards) {
    const pill = make("span", "train-weight");
    const box = make("input");
    box.type = "checkbox";
    box.setAttribute("aria-label", name);
    const number = make("input");
    number.type = "text";
    number.inputMode = "decimal";
    number.setAttribute("aria-label", `weight of ${name}`);
    pill.append(box, make("span", "", name.replace("_", " ")), number);
    pill.dataset.name = name;
    const collect = () => {
      const parts = [...node.children].filter((each) => each.querySelector("[type=checkbox]").checked);
      change(field.path, parts.map((each) => `${each.dataset.name}: ${each.querySelector("[type=text]").value || 1}`).join(", "));
    };
    box.addEventListener("change", () => { if (box.checked && !number.value) number.value = "1"; collect(); });
    number.addEventListener("input", () => { box.checked = number.value !== ""; collect(); });
    node.append(pill);
  }
  return node;
}

function put({ field, input }) {
  const text = current(field.path) ?? "";
  if (field.path === "rewards.weights") {
    const weights = Object.fromEntries(text.split(",").map((part) => part.split(":").map((each) => each.trim())));
    for (const pill of input.children) {
      const value = weights[pill.dataset.name];
      pill.querySelector("[type=checkbox]").checked = value !== undefined;
      const number = pill.querySelector("[type=text]");
      if (document.activeElement !== number) number.value = value ?? "";
    }
  } else if (field.kind === "switch") input.checked = text === "true";
  else if (document.activeElement !== input) {
    if (input.tagName === "SELECT" && ![...input.options].some((each) => each.value === text)) input.append(new Option(text, text));
    input.value = text;
  }
}

function refill() {
  for (const each of inputs.values()) {
    each.box.hidden = !visible(each.field);
    put(each);
  }
  const source = current("data.source");
  for (const { field, box } of inputs.values()) {
    if (field.path === "data.path") {
      box.hidden = source === "closedtalk" && !current("data.path");
      box.querySelector("input").placeholder = source === "votes" ? "empty takes the arena's votes" : "file, folder or hub id";
    }
  }
  for (const section of formBox.querySelectorAll(".train-section")) {
    section.hidden = ![...section.querySelectorAll(".train-field")].some((each) => !each.hidden);
  }
}

function change(path, text) {
  form.changes[path] = text;
  if (path.endsWith(".kind") || path === "data.source") refill();
  check();
}

const sent = () => {
  const seen = {};
  for (const { field } of inputs.values()) if (field.path in form.changes && visible(field)) seen[field.path] = form.changes[field.path];
  return { plain: form.plain, changes: seen, recipe: form.recipe };
};

function check() {
  clearTimeout(checking);
  checking = setTimeout(async () => {
    const answer = await call("check", sent());
    if (answer.error) return answer.lost ? null : tell(answer.error);
    explain(answer.problems);
    if (answer.yaml) showText(answer.yaml, answer.command);
    say(formBox.querySelector(".train-memory"), answer.memory || "");
  }, 350);
}

function explain(problems) {
  form.problems = problems || {};
  const rest = new Map(Object.entries(form.problems));
  for (const { field, box, wrong } of inputs.values()) {
    const sentence = visible(field) ? form.problems[field.path] : undefined;
    if (sentence) rest.delete(field.path);
    box.classList.toggle("is-wrong", Boolean(sentence));
    wrong.hidden = !sentence;
    say(wrong, sentence || "");
    if (sentence && !box.hidden) for (let folded = box.closest("details"); folded; folded = folded.parentElement.closest("details")) folded.open = true;
  }
  const other = formBox.querySelector(".train-general");
  other.hidden = rest.size === 0;
  say(other, [...rest.values()].join(" "));
}

function showText(yaml, command) {
  const area = formBox.querySelector(".train-yaml");
  if (document.activeElement !== area) area.value = yaml;
  form.yaml = yaml;
  say(formBox.querySelector(".train-command code"), command);
}

function take(answer, keep = {}) {
  if (answer.problems) return explain(answer.problems);
  form.plain = answer.plain;
  form.values = answer.values;
  form.changes = keep;
  refill();
  check();
}

async function chooseRecipe(name) {
  form.recipe = name;
  // What was chosen about the model and the data stays; what a recipe decides does not.
  const kept = Object.fromEntries(Object.entries(form.changes).filter(([path]) => !path.startsWith("method.") && path !== "rewards.weights"));
  const answer = await act("fill", { recipe: name });
  if (answer) take(answer, kept);
}

function extraField(name, label, hint, options) {
  const box = make("label", "train-field");
  const input = make(options ? "select" : "input");
  if (options) for (const each of options) input.append(new Option(each, each));
  else { input.type = "text"; input.inputMode = "decimal"; input.autocomplete = "off"; }
  input.name = name;
  const wrong = make("span", "train-wrong");
  wrong.hidden = true;
  box.append(make("span", "train-label", label), input, make("span", "train-hint", hint), wrong);
  extra[name] = input;
  return box;
}

function drawForm(described) {
  form.described = described;
  const card = make("details", "train-card");
  card.open = true;
  const body = make("form");
  body.addEventListener("submit", (event) => { event.preventDefault(); startJob(); });
  const first = make("div", "train-first");
  const recipe = make("label", "train-field");
  const choose = make("select");
  choose.id = "train-recipe";
  for (const each of described.recipes) choose.append(new Option(each.name, each.name));
  const about = make("span", "train-hint");
  const explainRecipe = () => {
    about.title = described.recipes.find((each) => each.name === choose.value)?.about || "";
    say(about, about.title);
  };
  choose.addEventListener("change", () => { explainRecipe(); chooseRecipe(choose.value); });
  recipe.append(make("span", "train-label", "recipe"), choose, about);
  first.append(recipe);
  const titles = { "data.source": "data", "data.path": "data path", "rewards.weights": "reward", steps: "steps at most" };
  for (const path of ["name", "base", "data.source", "data.path", "steps"]) {
    const field = described.fields.find((each) => each.path === path);
    first.append(fieldBox({ ...field, label: titles[path] || field.label }));
  }
  first.append(extraField("minutes", "minutes at most", "Whichever comes first; empty: only the steps count."));
  const weights = described.fields.find((each) => each.path === "rewards.weights");
  const reward = fieldBox({ ...weights, label: "reward" });
  reward.classList.add("train-wide");
  first.append(reward);

  const advanced = make("details", "train-fold");
  advanced.append(make("summary", "", "Advanced"));
  const where = make("details", "train-section");
  where.open = true;
  where.append(make("summary", "", "Where and when"));
  const grid = make("div", "train-grid");
  grid.append(
    extraField("launcher", "launcher", "local: this machine; zerogpu: a GPU lent in slices; slurm: a cluster; hf-jobs: rented from Hugging Face", described.launchers),
    extraField("processes", "processes", "One for each GPU; empty: 1"),
    extraField("priority", "priority", "The highest waits least; from -100 to 100"),
    extraField("flavor", "hardware", "hf-jobs only: such as t4-small"),
    extraField("partition", "partition", "slurm only"),
  );
  grid.append(extraField("patience", "patience", "Stops after so many evaluations without more right answers; empty: never"));
  const alarm = make("label", "train-field train-switch");
  extra.stop_on_alarm = make("input");
  extra.stop_on_alarm.type = "checkbox";
  alarm.append(extra.stop_on_alarm, make("span", "train-label", "stop on a serious alarm"),
    make("span", "train-hint", "Such as a reward that rises while held-out speech gets worse"));
  grid.append(alarm);
  where.append(grid);
  advanced.append(where);
  const sections = new Map();
  for (const field of described.fields) {
    if (field.first) continue;
    if (!sections.has(field.section)) {
      const section = make("details", "train-section");
      section.append(make("summary", "", field.section));
      const inner = make("div", "train-grid");
      section.append(inner);
      sections.set(field.section, inner);
      advanced.append(section);
    }
    sections.get(field.section).append(fieldBox(field));
  }

  const texts = make("details", "train-fold");
  texts.append(make("summary", "", "As YAML or command line"));
  const area = make("textarea", "train-yaml");
  area.rows = 12;
  area.spellcheck = false;
  area.setAttribute("aria-label", "The config as YAML");
  const file = make("input");
  file.type = "file";
  file.accept = ".yaml,.yml";
  file.hidden = true;
  file.addEventListener("change", async () => { if (file.files[0]) { area.value = await file.files[0].text(); useYaml(); } file.value = ""; });
  const useYaml = async () => { const answer = await act("fill", { yaml: area.value }); if (answer) take(answer); };
  const row = make("div", "train-buttons");
  row.append(
    button("Use this YAML", "train-plain", useYaml),
    button("Load a file", "train-plain", () => file.click()),
    button("Save as a file", "train-plain", () => download(`${current("name")}.yaml`, URL.createObjectURL(new Blob([area.value])))),
    file,
  );
  const command = make("pre", "train-command");
  command.append(make("code"));
  const copy = button("Copy", "train-plain", async () => { await navigator.clipboard.writeText(command.textContent); say(copy, "Copied"); setTimeout(() => say(copy, "Copy"), 1500); });
  texts.append(area, row, make("p", "train-hint", "The same run from a shell:"), command, copy);

  for (const hint of first.querySelectorAll(".train-hint")) hint.title = hint.textContent;
  const general = make("p", "train-general");
  general.hidden = true;
  general.setAttribute("role", "alert");
  const foot = make("div", "train-buttons");
  const go = make("button", "train-primary", "Start");
  go.id = "train-start";
  foot.append(go, make("span", "train-parent"));
  const memory = make("p", "train-memory");
  memory.setAttribute("aria-live", "polite");
  const summary = make("summary");
  summary.append(make("h2", "", "New job"));
  body.append(first, foot, memory, general, advanced, texts);
  card.append(summary, body);
  formBox.replaceChildren(card);
  form.recipe = choose.value = described.recipe;
  explainRecipe();
  take(described.start);
}

async function startJob() {
  const go = formBox.querySelector("#train-start");
  go.disabled = true;
  const rest = Object.fromEntries(Object.entries(extra).map(([name, input]) => [name, input.type === "checkbox" ? input.checked : input.value]));
  if (rest.launcher === "hf-jobs") {
    const cost = await act("price", rest);
    if (!cost || !(await askBack(cost.words, "Rent it and start"))) return (go.disabled = false);
  }
  const answer = await call("start", { ...sent(), ...rest, parent: form.parent });
  go.disabled = false;
  if (answer.error) return tell(answer.error);
  if (answer.problems) {
    explain(answer.problems);
    for (const [name, input] of Object.entries(extra)) {
      const wrong = input.parentElement.querySelector(".train-wrong");
      if (wrong) { wrong.hidden = !answer.problems[name]; say(wrong, answer.problems[name] || ""); }
    }
    return tell("Nothing was started: look at the fields marked below.");
  }
  form.parent = null;
  formBox.querySelector(".train-card").open = false;
  say(formBox.querySelector(".train-parent"), "");
  tell("Queued.", "good");
  choose(answer.job, true);
}

async function cloneRun(id) {
  const answer = await act("clone", { job: id });
  if (!answer) return;
  form.parent = id;
  formBox.querySelector(".train-card").open = true;
  take(answer);
  extra.minutes.value = answer.minutes ?? "";
  say(formBox.querySelector(".train-parent"), `A clone of ${answer.name}: change what you like.`);
  formBox.scrollIntoView({ block: "start", behavior: "smooth" });
}
