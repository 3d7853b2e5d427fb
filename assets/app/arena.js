// The Arena page: consent, sound check, battle, vote, reveal. The browser holds a rater's token and a battle's id only;
// what is true is asked of the server. Everything a person or a model said is set as text, never as markup.

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
const LEVELS = [
  ["publish", "Use and publish",
    "My votes count on the board. My votes and recordings may train and study models, and may be published in an open dataset, without a name."],
  ["research", "Use, do not publish",
    "My votes count on the board. My votes and recordings may train and study models by whoever runs this workbench. They are not published."],
  ["nothing", "Use nothing",
    "I only want to try it. My votes do not count, and nothing of mine is shown, exported or learnt from."],
];

const root = element.querySelector(".arena");
const panel = element.querySelector(".arena-panel");
const notice = element.querySelector(".arena-alert");
const status = element.querySelector(".arena-status");
const live = element.querySelector(".arena-live");
const foot = element.querySelector(".arena-foot");
const drawer = element.querySelector(".arena-drawer");

const remembered = { token: null };
const read = () => { try { return localStorage.getItem(TOKEN_KEY); } catch { return remembered.token; } };
const keep = (token) => {
  remembered.token = token;
  try { localStorage.setItem(TOKEN_KEY, token); } catch { /* a private window: until it is closed */ }
};

const me = { token: read(), consent: null, votes: 0, today: 0, choices: null };
let battle = null; // {id, players, turns, progress, chosen, repeat, receipt}
let ticking = null;
let seen = null;

// What the composer's events send along: who asks, and in which battle.
window.wavalignTicket = () => JSON.stringify({ token: me.token, battle: battle && !battle.receipt ? battle.id : null });

async function call(what, data = {}) {
  let answer;
  try {
    answer = await server.arena({ do: what, token: me.token, ...data });
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

function step(name) {
  root.dataset.step = name;
  document.body.dataset.arena = name;
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

// 1 Consent, 2 sound check.

function steps(now) {
  const list = make("ol", "arena-steps");
  ["Consent", "Sound", "Battle"].forEach((name, index) => {
    const item = make("li", index === now ? "now" : index < now ? "done" : "", name);
    if (index === now) item.setAttribute("aria-current", "step");
    list.append(item);
  });
  return list;
}

function levels(chosen) {
  const group = make("fieldset", "arena-levels");
  group.append(make("legend", "", "What may be done with it?"));
  for (const [level, title, words] of LEVELS) {
    const label = make("label", "arena-level");
    const input = make("input");
    input.type = "radio";
    input.name = "arena-level";
    input.value = level;
    input.checked = level === chosen;
    const text = make("span");
    text.append(make("strong", "", title), make("span", "", words));
    label.append(input, text);
    group.append(label);
  }
  return group;
}

function consentText() {
  const list = make("dl", "arena-facts");
  for (const [name, words] of [
    ["Recorded", "What you say or type here, both replies, how much of them you played, and your vote."],
    ["About you", "A random number that this browser keeps. No name, no account, no address."],
    ["Where it goes", "Into a database and a folder on the computer that runs this workbench."],
    ["Erase", "“Erase my data” below this page removes all of it, recordings included, at any time."],
  ]) {
    const pair = make("div");
    pair.append(make("dt", "", name), make("dd", "", words));
    list.append(pair);
  }
  return list;
}

function showConsent() {
  step("consent");
  const first = me.consent === null;
  const box = make("section", "arena-card arena-consent");
  const form = levels(me.consent || "research");
  const agree = button(first ? "Agree and go on" : "Save", "arena-primary", async () => {
    const level = form.querySelector("input:checked").value;
    const answer = await call("consent", { level });
    if (answer.error) return tell(answer.error.message);
    tell();
    arrived(answer);
    first ? showCheck() : resume();
  });
  agree.classList.add("arena-agree");
  if (first) box.append(steps(0));
  box.append(
    make("h2", "", first ? "Before you vote" : "What you agreed to"),
    make("p", "arena-lead", "You ask, two models answer aloud, and you say which reply is better without knowing who is who."),
    consentText(),
    form,
    agree
  );
  if (!first) box.append(button("Back", "arena-plain", resume));
  panel.replaceChildren(box);
}

async function showCheck() {
  step("check");
  const box = make("section", "arena-card arena-check");
  const heard = button("I hear it well", "arena-primary", () => {
    silence();
    showComposer();
  });
  heard.disabled = true;
  box.append(
    steps(1),
    make("h2", "", "Can you hear this?"),
    make("p", "arena-lead", "Replies are as loud as this voice. Headphones are best. Set the volume so that it is comfortable.")
  );
  panel.replaceChildren(box);
  const answer = await call("sound");
  if (answer.error) return tell(answer.error.message);
  const clip = new Clip(answer.audio, "the sound check", () => { heard.disabled = false; });
  clip.button.classList.add("big");
  const row = make("div", "arena-row");
  const help = make("p", "arena-hint", "Nothing to hear? Check the volume, the mute switch and which speaker is chosen, then play it again.");
  row.append(clip.button, heard);
  box.append(row, help);
  clip.button.focus();
}

// 3 The battle.

function showComposer() {
  battle = null;
  step("compose");
  const box = make("section", "arena-card arena-empty");
  box.append(
    make("h2", "", "Ask. Listen to A and B. Vote."),
    make("p", "", "Speak, type, or pick an example. Both sides hear the same; who is who is shown after your vote.")
  );
  panel.replaceChildren(box);
}

async function fresh() {
  silence();
  tell();
  const answer = await call("next");
  if (answer.error) {
    showComposer();
    return tell(answer.error.message);
  }
  if (answer.battle) return openBattle(answer.battle, true);
  showComposer();
}

async function resume() {
  if (me.consent === null) return showConsent();
  if (me.current) return openBattle(me.current);
  showComposer();
}

async function openBattle(id, repeat = false) {
  const known = battle && battle.id === id ? battle : null;
  const answer = await call("fetch", { battle: id, after: known ? known.turns.length : 0 });
  if (answer.error) {
    me.current = null;
    showComposer();
    return tell(answer.error.message);
  }
  battle = known || { id, turns: [], players: [], chosen: null, receipt: null, repeat };
  battle.repeat = battle.repeat || repeat;
  me.current = id;
  for (const turn of answer.turns) {
    battle.turns.push(turn);
    battle.players.push(
      new ABPlayer(turn.turn, turn.audio, {
        reports: report,
        switched: (side) => speak(NAMES[side]),
        started: () => { battle.active = battle.players[turn.turn]; },
      })
    );
  }
  battle.active = battle.players[battle.players.length - 1];
  battle.progress = answer.progress;
  if (answer.receipt) return showVoted(answer.receipt);
  drawBattle();
}

function turnView(turn, index) {
  const node = make("div", "arena-turn");
  const asked = make("div", "arena-asked");
  asked.append(make("span", "arena-who", battle.turns.length > 1 ? "You, turn " + (index + 1) : "You"));
  if (turn.asked) {
    const clip = new Clip(turn.asked, "what you asked");
    asked.append(clip.button);
  }
  asked.append(make("p", "", turn.words || "(spoken)"));
  node.append(asked, battle.players[index].node);
  const words = make("details", "arena-words");
  words.append(make("summary", "", "Words"));
  const both = make("div", "arena-both");
  for (const side of ["left", "right"]) {
    const text = make("p", "side-" + NAMES[side].toLowerCase());
    text.append(make("b", "", NAMES[side]), document.createTextNode(turn.text[side] || "(no words)"));
    both.append(text);
  }
  words.append(both);
  node.append(words);
  return node;
}

function drawBattle() {
  step("battle");
  root.dataset.more = battle.progress.turns_left > 0 && !battle.repeat;
  document.body.dataset.arenaMore = root.dataset.more;
  const box = make("section", "arena-card arena-battle");
  box.setAttribute("aria-label", "Battle");
  if (battle.repeat) box.append(make("p", "arena-hint", "A dialogue from earlier comes once more. Listen and vote as if it were new."));
  battle.turns.forEach((turn, index) => box.append(turnView(turn, index)));
  box.append(voteBar());
  panel.replaceChildren(box);
  battle.players.forEach((player) => player.draw());
  if (battle.turns.length > 1) box.querySelectorAll(".arena-turn")[battle.turns.length - 1].scrollIntoView({ block: "nearest" });
  showProgress(battle.progress);
}

function voteBar() {
  const bar = make("div", "arena-vote");
  const title = make("h3", "", battle.turns.length > 1 ? "Which side is better over the whole dialogue?" : "Which reply is better overall?");
  title.id = "arena-question";
  const group = make("div", "arena-choices");
  group.setAttribute("role", "group");
  group.setAttribute("aria-labelledby", title.id);
  battle.buttons = CHOICES.map(([choice, words, short, key]) => {
    const node = button("", "arena-choice", () => vote(choice));
    node.append(make("span", "", short));
    node.setAttribute("aria-label", words);
    node.setAttribute("aria-keyshortcuts", String(key));
    node.title = words + " (key " + key + ")";
    node.dataset.choice = choice;
    node.dataset.side = choice === "both_bad" ? "none" : choice > 0 ? "a" : choice < 0 ? "b" : "none";
    group.append(node);
    return node;
  });
  const hint = make("p", "arena-hint arena-left");
  hint.id = "arena-left";
  hint.setAttribute("role", "status");
  const keys = make("p", "arena-keys");
  for (const [name, what] of [["space", "play"], ["A", ""], ["B", "switch"], ["← →", "seek"], ["1–7", "choose"], ["0", "both bad"], ["Enter", "vote"]]) {
    keys.append(make("kbd", "", name), document.createTextNode(what ? " " + what + "  " : " "));
  }
  bar.append(title, group, hint, keys);
  return bar;
}

let opening = null;

function showProgress(progress) {
  if (!battle || !progress || progress.battle !== battle.id) return;
  battle.progress = progress;
  const hint = element.querySelector(".arena-left");
  if (!hint) return;
  const early = progress.may_vote ? 0 : progress.wait_seconds;
  const words = progress.may_vote
    ? battle.chosen === null ? "Both heard: vote." : label(battle.chosen) + ": press Enter to vote."
    : progress.missing || "Listen to both replies first, then vote.";
  say(hint, words);
  hint.dataset.open = progress.may_vote;
  for (const node of battle.buttons || []) {
    node.setAttribute("aria-disabled", String(!progress.may_vote));
    node.classList.toggle("chosen", node.dataset.choice === String(battle.chosen));
    if (node.dataset.choice === String(battle.chosen)) node.setAttribute("aria-pressed", "true");
    else node.removeAttribute("aria-pressed");
  }
  clearTimeout(opening);
  const heardAll = ["left", "right"].every((side) => progress.heard[side] >= 0.999);
  // All was heard, only time is missing: look again when it is over.
  if (!progress.may_vote && heardAll && early > 0) {
    opening = setTimeout(async () => showProgress((await call("progress", { battle: battle.id })).progress), 1000 * early + 100);
  }
}

async function report(reports) {
  const id = battle && battle.id;
  const answer = await call("report", { battle: id, reports });
  if (battle && battle.id === id && !battle.receipt && answer.progress) showProgress(answer.progress);
}

function label(choice) {
  return CHOICES.find((each) => each[0] === choice)[1];
}

function choose(choice) {
  battle.chosen = choice;
  showProgress(battle.progress);
  speak(label(choice) + (battle.progress.may_vote ? ". Enter votes." : ""));
}

async function vote(choice) {
  if (!battle || battle.receipt || battle.voting) return;
  battle.chosen = choice;
  battle.players.forEach((player) => player.pause());
  if (!battle.progress.may_vote) {
    // The last report may still be on its way.
    showProgress((await call("progress", { battle: battle.id })).progress || battle.progress);
    if (!battle.progress.may_vote) return speak(battle.progress.missing || "");
  }
  battle.voting = true;
  const answer = await call("vote", { battle: battle.id, choice });
  battle.voting = false;
  if (answer.error) {
    tell(answer.error.message);
    return answer.error.code === "unheard" ? null : openBattle(battle.id);
  }
  tell();
  arrived(answer);
  showVoted(answer.receipt);
}

// After the vote: undo, two taps, who was who.

function showVoted(receipt) {
  step("voted");
  battle.receipt = receipt;
  const until = performance.now() + 1000 * receipt.undo_seconds;
  const box = make("section", "arena-card arena-voted");
  const head = make("div", "arena-saved");
  const undo = button("Undo", "arena-undo", async () => {
    const answer = await call("undo", { battle: battle.id });
    if (answer.error) return tell(answer.error.message);
    tell();
    clearInterval(ticking);
    battle.receipt = null;
    battle.chosen = null;
    battle.progress = answer.progress;
    arrived(answer);
    drawBattle();
    speak("Vote undone.");
  });
  const words = make("p", "arena-saved-words");
  words.append(make("strong", "", "Vote saved"), document.createTextNode(" · " + label(receipt.choice)));
  head.append(words, undo);
  const who = button("", "arena-primary arena-reveal", reveal);
  box.append(head, taps(receipt), who);
  battle.turns.forEach((turn, index) => box.append(turnView(turn, index)));
  panel.replaceChildren(box);
  battle.players.forEach((player) => player.draw());
  const tick = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    say(undo, left > 0 ? "Undo (" + left + " s)" : "Undo");
    undo.hidden = left <= 0;
    who.setAttribute("aria-disabled", String(left > 0));
    say(who, left > 0 ? "Who was who in " + left + " s" : "Show who was who");
    if (left <= 0) clearInterval(ticking);
  };
  clearInterval(ticking);
  ticking = setInterval(tick, 250);
  tick();
  window.scrollTo({ top: 0 });
  who.focus({ preventScroll: true });
  speak("Vote saved: " + label(receipt.choice) + ". Undo for " + Math.ceil(receipt.undo_seconds) + " seconds.");
}

function taps(receipt) {
  const said = { helpfulness: receipt.helpfulness, naturalness: receipt.naturalness, reason: receipt.reason || "" };
  const box = make("div", "arena-taps");
  const mark = make("span", "arena-tapped");
  const save = async () => {
    const answer = await call("detail", { battle: battle.id, ...said, reason: said.reason || null });
    if (answer.error) return tell(answer.error.message);
    say(mark, "Saved.");
  };
  for (const [name, question] of [["helpfulness", "More helpful?"], ["naturalness", "More natural?"]]) {
    const row = make("div", "arena-tap");
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", question);
    row.append(make("span", "", question));
    const nodes = [[1, "A"], [0, "Same"], [-1, "B"]].map(([value, text]) => {
      const node = button(text, "arena-small", () => {
        said[name] = value;
        nodes.forEach((each, index) => each.setAttribute("aria-pressed", String([1, 0, -1][index] === said[name])));
        save();
      });
      node.setAttribute("aria-pressed", String(said[name] === value));
      node.dataset.side = value > 0 ? "a" : value < 0 ? "b" : "none";
      return node;
    });
    row.append(...nodes);
    box.append(row);
  }
  const why = make("input", "arena-why");
  why.type = "text";
  why.maxLength = 500;
  why.placeholder = "Why? (optional)";
  why.setAttribute("aria-label", "Why? Optional");
  why.value = said.reason;
  why.addEventListener("change", () => {
    said.reason = why.value.trim();
    save();
  });
  box.append(why, mark);
  return box;
}

async function reveal() {
  if (!battle || !battle.receipt || battle.revealing) return;
  const why = element.querySelector(".arena-why");
  if (why && document.activeElement === why) why.blur();
  battle.revealing = true;
  const answer = await call("reveal", { battle: battle.id });
  battle.revealing = false;
  if (answer.error) return answer.error.code === "too_early" ? speak(answer.error.message) : tell(answer.error.message);
  tell();
  me.current = null;
  arrived(answer);
  showReveal(answer.reveal);
}

function showReveal(shown) {
  step("reveal");
  clearInterval(ticking);
  const box = make("section", "arena-card arena-revealed");
  const words = make("p", "arena-lead", label(shown.choice) + (shown.kind === "gold" ? "." : ": this is who you heard."));
  const both = make("div", "arena-who-was");
  for (const side of ["left", "right"]) {
    const card = make("article", "arena-side side-" + NAMES[side].toLowerCase());
    const head = make("header");
    head.append(make("span", "badge", NAMES[side]), make("strong", "", shown[side].checkpoint));
    if (shown.winner === side) head.append(make("span", "chip", "your choice"));
    card.append(head);
    card.append(figures(shown[side].figures));
    both.append(card);
  }
  const receipt = make("p", "arena-receipt");
  receipt.append(document.createTextNode("Receipt "), make("code", "", shown.receipt));
  const copy = button("Copy", "arena-plain", async () => {
    try { await navigator.clipboard.writeText(shown.receipt); say(copy, "Copied"); } catch { say(copy, "Select it by hand"); }
  });
  receipt.append(copy, make("span", "arena-counted", shown.counted));
  const again = button("New battle", "arena-primary", fresh);
  box.append(make("h2", "", "Who was who"), words, both, receipt, again);
  battle.turns.forEach((turn, index) => box.append(turnView(turn, index)));
  panel.replaceChildren(box);
  battle.players.forEach((player) => player.draw());
  battle.revealed = true;
  window.scrollTo({ top: 0 });
  again.focus({ preventScroll: true });
  speak("A was " + shown.left.checkpoint + ", B was " + shown.right.checkpoint + ".");
}

function figures(rows) {
  const list = make("dl", "figures");
  for (const [name, value, hint] of rows) {
    const pair = make("div", "figure");
    pair.title = hint;
    pair.append(make("dt", "", name), make("dd", "", value));
    list.append(pair);
  }
  return list;
}

// The foot: counts, my votes, erase.

function showFoot() {
  const counts = make("span", "arena-counts",
    (me.today === 1 ? "1 battle today" : me.today + " battles today") + " · " + (me.votes === 1 ? "1 vote of yours" : me.votes + " votes of yours"));
  const links = make("span", "arena-links");
  if (me.consent !== null) {
    links.append(
      button("My votes", "arena-plain", () => (drawer.dataset.open === "mine" ? shut() : showMine())),
      button("What I agreed to", "arena-plain", () => { silence(); showConsent(); window.scrollTo({ top: 0 }); }),
      button("Erase my data", "arena-plain", () => (drawer.dataset.open === "erase" ? shut() : showErase()))
    );
  }
  foot.replaceChildren(counts, links);
}

function shut() {
  drawer.dataset.open = "";
  drawer.replaceChildren();
}

function openDrawer(name, ...nodes) {
  drawer.dataset.open = name;
  const box = make("section", "arena-card");
  box.append(...nodes);
  drawer.replaceChildren(box);
  drawer.scrollIntoView({ block: "nearest" });
}

async function showMine() {
  const answer = await call("mine");
  if (answer.error) return tell(answer.error.message);
  const close = button("Close", "arena-plain", shut);
  const head = make("div", "arena-saved");
  head.append(make("h3", "", "My votes"), close);
  if (!answer.mine.length) {
    return openDrawer("mine", head, make("p", "arena-hint", "None yet. A vote appears here with its receipt, and can be taken back at any time."));
  }
  const list = make("ul", "arena-mine");
  for (const each of answer.mine) {
    const item = make("li");
    const text = make("div", "arena-mine-words");
    const title = make("p");
    title.append(make("strong", "", each.words || "(spoken)"), make("span", "", " · " + label(each.choice)));
    const sides = make("p", "arena-hint");
    sides.append(
      document.createTextNode(each.left ? "A " + each.left + " · B " + each.right + " · " : ""),
      document.createTextNode(new Date(1000 * each.at).toLocaleString() + " · " + each.status)
    );
    const extra = each.reason ? make("p", "arena-hint", "“" + each.reason + "”") : null;
    text.append(title, sides);
    if (extra) text.append(extra);
    text.append(make("code", "", each.receipt));
    item.append(text);
    if (each.may_retract) {
      item.append(
        button("Take back", "arena-small", async () => {
          const back = await call("retract", { receipt: each.receipt });
          if (back.error) return tell(back.error.message);
          arrived(back);
          showMine();
        })
      );
    }
    list.append(item);
  }
  openDrawer("mine", head, list);
}

function showErase() {
  const yes = button("Erase everything of mine", "arena-danger", async () => {
    silence();
    const answer = await call("erase");
    if (answer.error) return tell(answer.error.message);
    me.consent = null;
    me.current = null;
    battle = null;
    arrived(answer);
    openDrawer("erase", make("p", "", answer.words), button("Close", "arena-plain", shut));
    showConsent();
  });
  openDrawer(
    "erase",
    make("h3", "", "Erase my data"),
    make("p", "", "Removes every battle of this browser: your recordings, both replies, your votes and reasons. They disappear from the board and from later exports. It cannot be undone."),
    yes,
    button("Keep it", "arena-plain", shut)
  );
  yes.focus();
}

function arrived(answer) {
  if (answer.token) {
    me.token = answer.token;
    keep(answer.token);
  }
  for (const name of ["consent", "votes", "today", "current"]) if (name in answer) me[name] = answer[name];
  showFoot();
}

// What the composer's events bring: {nonce, state, battle, error}.
function composed() {
  const value = props.value || {};
  if (!value.nonce || value.nonce === seen) return;
  seen = value.nonce;
  clearInterval(ticking);
  const asking = value.state === "asking";
  root.dataset.asking = document.body.dataset.arenaAsking = asking;
  status.hidden = !asking;
  if (asking) {
    silence();
    tell();
    const since = performance.now();
    const words = () => {
      const seconds = Math.floor((performance.now() - since) / 1000);
      say(status, (value.words || "Both sides are answering") + (seconds >= 2 ? " · " + seconds + " s" : " …"));
    };
    words();
    ticking = setInterval(words, 1000);
    return;
  }
  if (value.error) tell(value.error);
  if (value.battle) {
    tell();
    openBattle(value.battle);
  } else if (value.code === "consent") {
    showConsent();
  } else if (battle && ["void", "expired", "voted", "unknown", "erased"].includes(value.code)) {
    me.current = null;
    showComposer();
  }
}

document.addEventListener("keydown", (event) => {
  if (!element.isConnected || event.ctrlKey || event.metaKey || event.altKey || !battle) return;
  const at = event.target;
  const typing = at.closest && at.closest("input:not([type=range]):not([type=radio]), textarea, select, [contenteditable=true]");
  if (typing) return;
  const key = event.key.toLowerCase();
  const here = root.dataset.step;
  if (!["battle", "voted", "reveal"].includes(here)) return;
  const player = battle.active;
  const pressed = at.closest && at.closest("button, summary, a, input");
  if (key === " " && !(pressed && !pressed.closest(".ab"))) player.toggle();
  else if (key === "a" || key === "b") player.choose(key === "a" ? "left" : "right");
  else if ((key === "arrowleft" || key === "arrowright") && !pressed) player.seek(player.position() + (key === "arrowleft" ? -0.5 : 0.5));
  else if (here === "battle" && /^[0-7]$/.test(key)) choose(key === "0" ? "both_bad" : 4 - Number(key));
  else if (here === "battle" && key === "enter" && battle.chosen !== null && !(pressed && !pressed.closest(".ab"))) vote(battle.chosen);
  else return;
  event.preventDefault();
});
window.addEventListener("pagehide", silence);

async function start() {
  step("loading");
  const answer = await call("hello");
  if (answer.error) {
    const box = make("section", "arena-card arena-empty");
    box.append(make("p", "", answer.error.message), button("Try again", "arena-primary", start));
    return panel.replaceChildren(box);
  }
  arrived(answer);
  resume();
}

watch("value", composed);
start();
