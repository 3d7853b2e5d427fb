// The Checkpoints page, what is there: memory, one row a checkpoint, details, the buttons of a row.

const root = element.querySelector(".points");
const notice = root.querySelector(".points-alert");
const live = root.querySelector(".points-live");
const memoryBox = root.querySelector(".points-memory");
const listBox = root.querySelector(".points-list");
const state = { host: false, open: new Set(), cards: new Map() };

function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined && text !== null) node.textContent = text;
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
    const answer = await server.checkpoints({ do: what, ...data });
    return answer && typeof answer === "object" ? answer : { error: "No answer came back. Try again." };
  } catch {
    return { error: "The connection was lost. Trying again …" };
  }
}

let told = null;
function tell(message, kind = "trouble") {
  clearTimeout(told);
  notice.hidden = !message;
  notice.dataset.kind = kind;
  if (notice.textContent !== (message || "")) notice.textContent = message || "";
  if (message && kind === "good") {
    told = setTimeout(() => tell(), 12000);
    live.textContent = message;
  }
}

async function act(what, data) {
  const answer = await call(what, data);
  tell(answer.error || answer.said, answer.error ? "trouble" : "good");
  await look();
  return !answer.error;
}

function facts(rows) {
  const list = make("dl", "points-facts");
  for (const [label, value] of rows) list.append(make("dt", "", label), make("dd", "", value));
  return list;
}

function ask(words, yes) {
  return new Promise((resolve) => {
    const box = make("dialog", "points-dialog");
    const form = make("form");
    form.method = "dialog";
    const foot = make("div", "points-buttons");
    const go = make("button", "points-danger", yes);
    go.value = "yes";
    foot.append(button("Leave it", "points-plain", () => box.close("no")), go);
    form.append(make("p", "", words), foot);
    box.append(form);
    box.addEventListener("close", () => {
      resolve(box.returnValue === "yes");
      box.remove();
    });
    root.append(box);
    box.showModal();
  });
}

function showMemory(devices) {
  memoryBox.replaceChildren(
    ...devices.map((each) => {
      const box = make("div", "points-device");
      const bar = make("progress");
      bar.max = each.total;
      bar.value = each.taken;
      bar.setAttribute("aria-label", `Memory of ${each.device}`);
      box.append(make("strong", "", each.device === "cpu" ? "CPU" : each.device), bar, make("span", "", each.words));
      return box;
    }),
  );
}

const TITLES = { base: "Base", adapter: "Adapter", remote: "Remote", broken: "Broken" };

function row(point, loading) {
  const box = make("article", "points-row");
  box.dataset.name = point.name;
  box.dataset.state = loading ? "loading" : point.state || "broken";
  const about = make("div", "points-about");
  about.append(make("h3", "", point.name), make("p", "points-words", `${TITLES[point.kind]} · ${point.words}`));
  const now = make("div", "points-now");
  now.append(make("span", "points-state", loading ? "loading" : point.state || "broken"));
  if (point.memory) now.append(make("strong", "", point.memory));
  if (point.memory_words) now.append(make("span", "points-words", point.memory_words));
  const buttons = make("div", "points-buttons");
  const details = button(state.open.has(point.name) ? "Less" : "Details", "points-plain", () => toggle(point.name));
  details.setAttribute("aria-expanded", state.open.has(point.name));
  if (point.kind !== "broken") buttons.append(details);
  if (["not loaded", "not downloaded"].includes(point.state) && !loading) {
    buttons.append(button(point.state === "not loaded" ? "Load" : "Download and load", "points-plain", () => act("load", { name: point.name })));
  }
  if (point.unloadable) buttons.append(button("Unload", "points-plain", () => act("unload", { name: point.name })));
  if (point.removable) buttons.append(button("Remove", "points-plain", () => remove(point)));
  box.append(about, now, buttons);
  if (loading) {
    const line = make("div", "points-loading");
    const bar = make("progress");
    if (loading.share !== null) bar.value = loading.share;
    bar.setAttribute("aria-label", loading.words);
    line.append(bar, make("span", "", loading.words));
    box.append(line);
  }
  if (point.trouble) box.append(make("p", "points-trouble", point.trouble));
  if (state.open.has(point.name)) box.append(more(point));
  return box;
}

function more(point) {
  const box = make("div", "points-more");
  if (point.facts && point.facts.length) box.append(facts(point.facts));
  const card = state.cards.get(point.name);
  if (card && card.card) box.append(make("h4", "", "Model card"), make("pre", "points-card", card.card));
  if (card && card.provenance) {
    const fold = make("details");
    fold.append(make("summary", "", "Everything that was recorded"), make("pre", "points-card", card.provenance));
    box.append(fold);
  }
  if (!box.children.length) box.append(make("p", "points-words", "It does not say where it comes from."));
  if (!point.arena) box.append(make("p", "points-words", "It does not take part in the Arena."));
  return box;
}

async function toggle(name) {
  if (!state.open.delete(name)) {
    state.open.add(name);
    const card = await call("card", { name });
    if (!card.error) state.cards.set(name, card);
  }
  await look();
}

async function remove(point) {
  const words = {
    remote: `Take ${point.name} off the list? Votes and evaluations of it stay.`,
    base: `Take ${point.name} off the list? Its files stay where they are.`,
    adapter: `Remove ${point.name}? An adapter that was promoted here is deleted; one from elsewhere stays in its place.`,
  }[point.kind];
  if (await ask(words, "Remove")) await act("remove", { name: point.name });
}

let shown = "";
function showList(answer) {
  const now = JSON.stringify([answer, [...state.open], [...state.cards.keys()]]);
  if (now === shown) return; // what has the focus keeps it
  shown = now;
  const focus = document.activeElement && listBox.contains(document.activeElement)
    ? [document.activeElement.closest(".points-row").dataset.name, document.activeElement.textContent] : null;
  const loading = new Map(answer.loading.map((each) => [each.name, each]));
  const rows = answer.checkpoints.map((each) => row(each, loading.get(each.name)));
  if (!rows.length) rows.push(make("p", "points-empty", "No checkpoint yet. Add one below."));
  if (answer.trouble) rows.unshift(make("p", "points-trouble", answer.trouble));
  listBox.replaceChildren(...rows);
  if (!focus) return;
  const same = [...listBox.querySelectorAll(".points-row")].find((each) => each.dataset.name === focus[0]);
  const again = same && [...same.querySelectorAll("button")];
  const target = again && (again.find((each) => each.textContent === focus[1]) || again[0]);
  if (target) target.focus();
}
