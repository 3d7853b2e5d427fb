// What the parts of the Train page share: making pieces, asking the server, telling, asking back.

const root = element.querySelector(".train");
const notice = root.querySelector(".train-alert");
const live = root.querySelector(".train-live");

function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function button(text, name, act) {
  const node = make("button", name, text);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

async function call(what, data = {}) {
  let answer = null;
  try {
    answer = await server.train({ do: what, ...data });
  } catch {
    // said below, as is an answer that did not come
  }
  if (answer && typeof answer === "object") return answer;
  return { error: "The connection was lost; jobs go on without it. Trying again …", lost: true };
}

let told = null;
function tell(message, kind = "trouble") {
  clearTimeout(told);
  notice.hidden = !message;
  notice.dataset.kind = kind;
  say(notice, message || "");
  if (message && kind === "good") told = setTimeout(() => tell(), 12000);
  if (message && kind === "good") say(live, message); // trouble is an alert, which is read out by itself
}

// Asks the server and tells what came of it; the answer, or null where there was trouble.
async function act(what, data) {
  const answer = await call(what, data);
  if (answer.error) {
    tell(answer.error);
    return null;
  }
  tell(answer.said, "good");
  return answer;
}

// A question in the page; resolves to the text of its input (or true), or null.
function askBack(words, yes, value, danger) {
  return new Promise((resolve) => {
    const box = make("dialog", "train-dialog");
    const form = make("form");
    form.method = "dialog";
    form.append(make("p", "", words));
    let input = null;
    if (value !== undefined) {
      input = make("input");
      input.type = "text";
      input.value = value;
      input.setAttribute("aria-label", "Name");
      form.append(input);
    }
    const foot = make("div", "train-dialog-foot");
    const go = make("button", danger ? "train-danger" : "train-primary", yes);
    go.value = "yes";
    const no = button("Leave it", "train-plain", () => box.close("no"));
    foot.append(no, go);
    form.append(foot);
    box.append(form);
    box.addEventListener("close", () => {
      resolve(box.returnValue === "yes" ? (input ? input.value : true) : null);
      box.remove();
    });
    root.append(box);
    box.showModal();
    if (input) input.select();
  });
}

function download(name, url) {
  const link = make("a");
  link.href = url;
  link.download = name;
  link.click();
}

const state = {
  runs: [],          // lines, newest first
  focus: null,       // the run below the table
  shown: new Map(),  // id -> {colour, version, traces}
  memory: 0,
  paused: false,
  most: 10,
};
const COLOURS = ["#14938a", "#d9730d", "#2b7fd4", "#a04ac2", "#c2334d", "#6b7d1e", "#0e7fa8", "#b0761a", "#5b6bd6", "#7b8992"];
const ACTIVE = ["starting", "running", "stopping"];
const lineOf = (id) => state.runs.find((run) => run.id === id);
