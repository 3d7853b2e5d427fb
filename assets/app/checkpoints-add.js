// The Checkpoints page, adding: a hub id or folder, or a service; what was found is shown before anything is added.

const addBox = root.querySelector(".points-add");

function field(name, label, hint, options = {}) {
  const box = make("label", "points-field");
  box.dataset.field = name;
  box.append(make("span", "points-label", label));
  let input;
  if (options.choices) {
    input = make("select");
    for (const choice of options.choices) {
      const [value, words] = Array.isArray(choice) ? choice : [choice, choice];
      const option = make("option", "", words);
      option.value = value;
      input.append(option);
    }
  } else {
    input = make("input");
    input.type = "text";
    input.autocomplete = "off";
    input.spellcheck = false;
    if (options.placeholder) input.placeholder = options.placeholder;
  }
  input.name = name;
  box.append(input);
  if (hint) box.append(make("span", "points-hint", hint));
  return box;
}

function drawAdd(hello) {
  const card = make("section", "points-card-box");
  const head = make("div", "points-head");
  head.append(make("h2", "", "Add a checkpoint"));
  card.append(head);
  addBox.replaceChildren(card);
  const kinds = make("div", "points-kinds");
  kinds.setAttribute("role", "radiogroup");
  kinds.setAttribute("aria-label", "Kind of checkpoint");
  const forms = {
    local: localForm(hello),
    remote: remoteForm(hello),
  };
  for (const [kind, words] of [["local", "From the Hub or a folder"], ["remote", "A service"]]) {
    const label = make("label", "points-kind");
    const radio = make("input");
    radio.type = "radio";
    radio.name = "points-kind";
    radio.value = kind;
    radio.checked = kind === "local";
    radio.addEventListener("change", () => {
      for (const [name, form] of Object.entries(forms)) form.hidden = name !== kind;
    });
    label.append(radio, make("span", "", words));
    kinds.append(label);
  }
  forms.remote.hidden = true;
  card.append(kinds, forms.local, forms.remote);
}

function localForm(hello) {
  const main = [
    field("source", "Base or adapter", "A hub id, or the path of a folder on this machine", { placeholder: "owner/name or /path" }),
    field("adapter", "Adapter on it", "Optional: a LoRA adapter for that base", { placeholder: "owner/name or /path" }),
    field("name", "Name", "Empty: the end of its source"),
  ];
  const rest = [
    field("revision", "Revision", "A branch, tag or commit; pinned to its commit. Empty: the newest"),
    field("adapter_revision", "Adapter's revision"),
    field("dtype", "Precision", "auto: float32 on a CPU, as stored on a GPU", { choices: hello.dtypes }),
    field("device", "Device", "auto: a GPU when there is one", { choices: hello.devices }),
  ];
  return wishForm("local", main, rest, true);
}

function remoteForm(hello) {
  const dialects = hello.dialects.map((each) => [each.name, each.words]);
  const main = [
    field("url", "Address", "Up to and including /v1", { placeholder: "https://api.openai.com/v1" }),
    field("model", "Model", "As the service names it", { placeholder: "gpt-audio" }),
    field("dialect", "Kind of service", "", { choices: dialects }),
    field("key_env", "Variable of the key", "The name of an environment variable, never the key itself", { placeholder: "OPENAI_API_KEY" }),
    field("voice", "Voice", "Empty: the service's own"),
    field("name", "Name", "Empty: the model's"),
  ];
  const rest = [
    field("sample_rate", "Sample rate (Hz)", "Of raw samples; files say it themselves", { placeholder: "24000" }),
    field("system", "System message"),
  ];
  return wishForm("remote", main, rest, false);
}

function wishForm(kind, main, rest, arena) {
  const form = make("form", "points-form");
  form.dataset.kind = kind;
  const grid = make("div", "points-grid");
  grid.append(...main);
  const fold = make("details", "points-fold");
  const more = make("div", "points-grid");
  more.append(...rest);
  fold.append(make("summary", "", "More"), more);
  const part = make("label", "points-switch");
  const box = make("input");
  box.type = "checkbox";
  box.name = "arena";
  box.checked = arena;
  part.append(box, make("span", "", kind === "remote" ? "Takes part in the Arena: raters' recordings are sent to it" : "Takes part in the Arena"));
  const found = make("div", "points-found");
  found.setAttribute("aria-live", "polite");
  const submit = make("button", "points-primary", "Look at it");
  submit.type = "submit";
  const buttons = make("div", "points-buttons");
  buttons.append(submit);
  form.append(grid, fold, part, found, buttons);

  const wish = () => {
    const data = { kind, arena: box.checked };
    for (const input of form.querySelectorAll("input[type=text], select")) data[input.name] = input.value.trim() || null;
    return data;
  };
  const forget = () => {
    found.replaceChildren();
    buttons.hidden = false;
  };
  form.addEventListener("input", forget);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    found.replaceChildren(make("p", "points-words", "Looking …"));
    const answer = await call("look", wish());
    submit.disabled = false;
    if (answer.error) {
      found.replaceChildren(make("p", "points-trouble", answer.error));
      return;
    }
    const add = button(`Add ${answer.name}`, "points-primary points-add-it", async () => {
      add.disabled = true;
      if (await act("add", { ...wish(), name: answer.name })) {
        form.reset();
        forget();
      } else {
        add.disabled = false;
      }
    });
    const warnings = answer.warnings.map((words) => make("p", "points-warning", words));
    found.replaceChildren(facts(answer.rows), ...warnings, add);
    buttons.hidden = true; // until something is changed
    add.focus();
  });
  return form;
}
