// The Arena page: consent, sound check, battle, vote, reveal. The browser holds a rater's token and a battle's id only;
// what is true is asked of the server. Everything a person or a model said is set as text, never as markup.

const status = element.querySelector(".arena-status");
let battle = null; // {id, players, turns, progress, chosen, repeat, receipt}
let ticking = null;
let waiting = null;
let seen = null;

let asking = null; // {id, since, words} while a question is on its way or being answered

// What the composer's events send along: who asks, in which battle, and a name by which to stop it.
window.wavalignTicket = () => {
  if (!asking) asking = { id: named(), since: performance.now(), words: "Sent", later: "Waiting for a free place" };
  showAsking();
  return JSON.stringify({ token: me.token, battle: battle && !battle.receipt ? battle.id : null, ask: asking.id });
};

// The question never reached a handler: Gradio has said why.
window.wavalignUnasked = () => {
  asking = null;
  showAsking();
};

function named() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const waitingWords = make("span", "arena-waiting");
const stopButton = button("Stop", "arena-small arena-stop", async () => {
  if (!asking) return;
  asking.words = asking.later = "Stopping";
  showAsking();
  const answer = await call("stop", { ask: asking.id });
  if (answer.error) {
    stopButton.disabled = false;
    tell(answer.error.message);
  }
});
status.append(waitingWords, stopButton);

function showAsking() {
  clearInterval(waiting);
  mark("asking", asking !== null);
  status.hidden = asking === null;
  if (asking === null) return;
  silence();
  tell();
  stopButton.disabled = asking.words === "Stopping";
  say(stopButton, battle && battle.turns.length && !battle.receipt ? "Stop this battle" : "Stop");
  speak(asking.words + "."); // once: a count of seconds is for the eye
  const words = () => {
    const seconds = Math.floor((performance.now() - asking.since) / 1000);
    say(waitingWords, seconds < 2 ? asking.words + " …" : (asking.later || asking.words) + " · " + seconds + " s");
  };
  words();
  waiting = setInterval(words, 1000);
}

function step(name) {
  root.dataset.step = name;
  mark("step", name);
}

// The composer below is made of Gradio's widgets; it shows and hides by these.
function mark(name, value) {
  const composer = document.querySelector("#arena-composer");
  if (composer) composer.dataset[name] = String(value);
}

// What the composer's events bring: {nonce, state, battle, error}.
function composed() {
  const value = props.value || {};
  if (!value.nonce || value.nonce === seen) return;
  seen = value.nonce;
  if (value.state === "waiting") {
    if (asking && asking.words !== "Stopping" && asking.later !== value.words) {
      asking.words = asking.later = value.words.replace(/\.$/, "");
      showAsking();
    }
    return;
  }
  if (value.state === "asking") {
    if (asking && asking.words !== "Stopping") {
      asking = { id: asking.id, since: performance.now(), words: "Both sides are answering" };
      showAsking();
    }
    return;
  }
  asking = null;
  showAsking();
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
  const pressed = at.closest && at.closest("button, summary, a, input:not([type=range])"); // has its own space and Enter
  if (key === " " && !pressed) player.toggle();
  else if (key === "a" || key === "b") player.choose(key === "a" ? "left" : "right");
  else if ((key === "arrowleft" || key === "arrowright") && !at.closest("input")) player.seek(player.position() + (key === "arrowleft" ? -0.5 : 0.5));
  else if (here === "battle" && /^[0-7]$/.test(key)) choose(key === "0" ? "both_bad" : 4 - Number(key));
  else if (here === "battle" && key === "enter" && battle.chosen !== null && (!pressed || pressed.closest(".ab"))) vote(battle.chosen);
  else return;
  event.preventDefault();
});
// What else the foot offers here.
const footLinks = () => [button("What I agreed to", "arena-plain", () => { silence(); showConsent(); window.scrollTo({ top: 0 }); })];

// Everything of this rater is gone.
function erased() {
  battle = null;
  showConsent();
}

async function start() {
  step("loading");
  const answer = await call("hello");
  await footed();
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
