// What the Arena and the Preferences page share: who is here, how the server is asked, where things are told.

const TOKEN_KEY = "wavalign-rater";
const CHOICES = [
  [3, "A is much better", "A much", 1],
  [2, "A is better", "A", 2],
  [1, "A is slightly better", "A slightly", 3],
  [0, "No difference", "No difference", 4],
  [-1, "B is slightly better", "B slightly", 5],
  [-2, "B is better", "B", 6],
  [-3, "B is much better", "B much", 7],
  ["both_bad", "Both are bad", "Both bad", 0],
];

function label(choice) {
  return CHOICES.find((each) => each[0] === choice)[1];
}

const root = element.querySelector(".arena");
const panel = element.querySelector(".arena-panel");
const notice = element.querySelector(".arena-alert");
const live = element.querySelector(".arena-live");
let foot = null; // below the composer, in a piece of the page of its own
let drawer = null;

const remembered = { token: null };
const read = () => { try { return localStorage.getItem(TOKEN_KEY); } catch { return remembered.token; } };
const keep = (token) => {
  remembered.token = token;
  try { localStorage.setItem(TOKEN_KEY, token); } catch { /* a private window: until it is closed */ }
};

const me = { token: read(), consent: null, votes: 0, today: 0, current: null, where: "", about: "" };

async function call(what, data = {}) {
  let answer;
  try {
    answer = await server.arena({ do: what, token: me.token, ...data });
    // An id from elsewhere, or from before the server's secret changed: begin with a new one.
    if (answer && answer.error && answer.error.code === "rater" && what !== "hello") start();
  } catch {
    answer = { error: { code: "lost", message: "The connection was lost. Check it, then try again." } };
  }
  return answer && typeof answer === "object" ? answer : { error: { code: "lost", message: "No answer came back. Try again." } };
}

function tell(message) {
  notice.hidden = !message;
  say(notice, message || "");
  if (message) notice.scrollIntoView({ block: "nearest" });
}

function speak(text) {
  say(live, text);
}

function button(text, name, act) {
  const node = make("button", name, text);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

function silence() {
  if (AB.playing) AB.playing.pause();
}

function arrived(answer) {
  if (answer.token) {
    me.token = answer.token;
    keep(answer.token);
  }
  for (const name of ["consent", "votes", "today", "current", "where", "about"]) if (name in answer) me[name] = answer[name];
  showFoot();
}

// The foot may stand in a piece of the page that is drawn a moment later.
async function footed() {
  while (!(foot = document.querySelector(".arena-foot")) || !(drawer = document.querySelector(".arena-drawer"))) {
    await new Promise((next) => setTimeout(next, 50));
  }
}
