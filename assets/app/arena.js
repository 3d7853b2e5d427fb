// The Arena page: consent, sound check, battle, vote, reveal. The browser holds a rater's token and a battle's id only;
// what is true is asked of the server. Everything a person or a model said is set as text, never as markup.

const status = element.querySelector(".arena-status");
let battle = null; // {id, players, turns, progress, chosen, repeat, receipt}
let ticking = null;
let seen = null;

// What the composer's events send along: who asks, and in which battle.
window.wavalignTicket = () => JSON.stringify({ token: me.token, battle: battle && !battle.receipt ? battle.id : null });

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
  clearInterval(ticking);
  const asking = value.state === "asking";
  mark("asking", asking);
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
