// Draws the conversation from the value the server sends, and keeps what is already there: players go on playing.
// Everything a person or a model said is set as text, never as markup.

const make = (tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
};
const say = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

const scroll = element.querySelector(".stage-scroll");
const emptyState = element.querySelector(".stage-empty");
const status = element.querySelector(".stage-status");
const alertBox = element.querySelector(".stage-alert");
const root = element.querySelector(".stage");
let shown = { conversation: null, exchanges: [] };
let askedAt = 0;
let ticking = null;

for (const name of ["pointerup", "keydown"]) {
  document.addEventListener(name, () => { askedAt = performance.now(); }, { capture: true, passive: true });
}
// Nothing of this page should sound on after it was left.
window.addEventListener("pagehide", () => Sound.playing && Sound.playing.stop());

function askedView() {
  const node = make("div", "asked");
  const bubble = make("div", "bubble");
  const words = make("p", "asked-words");
  bubble.append(words);
  const note = make("p", "asked-note");
  note.hidden = true;
  node.append(bubble, note);
  let player = null;
  return {
    node,
    update(data) {
      say(words, data.words);
      words.classList.toggle("heard", data.spoken);
      if (data.url && !player) {
        player = new Player("your turn");
        player.settle(data.url, data.peaks, data.seconds);
        bubble.prepend(player.node);
      }
      note.hidden = !data.note;
      say(note, data.note || "");
    },
    stop: () => player && player.stop(),
  };
}

function answerView(side, exchange) {
  const node = make("article", "answer side-" + side.id);
  node.setAttribute("aria-label", "Reply " + side.id.toUpperCase() + " by " + side.name);
  const head = make("header", "answer-head");
  const delivery = make("span", "chip");
  delivery.hidden = true;
  head.append(make("span", "badge", side.id.toUpperCase()), make("span", "answer-name", side.name), delivery);
  const text = make("p", "answer-text");
  const player = new Player("reply " + side.id.toUpperCase(), () => exchange.playNext());
  const figures = make("dl", "figures");
  const remark = make("p", "answer-remark");
  remark.hidden = true;
  node.append(head, text, player.node, remark, figures);
  let drawn = "";
  return {
    node,
    player,
    silent: false,
    update(data) {
      this.silent = data.state === "done" && !data.url;
      node.classList.toggle("live", data.state === "live");
      node.dataset.state = data.state;
      say(text, data.text || (data.state === "live" ? "" : "(no words)"));
      delivery.hidden = !data.delivery;
      say(delivery, data.delivery || "");
      if (data.delivery) delivery.title = "The delivery its pitch, level and rate are nearest to";
      if (data.chunks && data.chunks.length) {
        player.onFirstSound = player.onFirstSound === undefined ? () => exchange.firstSound() : player.onFirstSound;
        player.push(data.chunks, data.rate);
      }
      if (data.url) player.settle(data.url, data.peaks, data.seconds);
      remark.hidden = !data.remark;
      say(remark, data.remark || "");
      const now = JSON.stringify(data.figures || []);
      if (now !== drawn) {
        drawn = now;
        figures.replaceChildren(
          ...(data.figures || []).map(([name, value, hint]) => {
            const pair = make("div", "figure");
            pair.title = hint;
            pair.append(make("dt", "", name), make("dd", "", value));
            return pair;
          })
        );
      }
    },
  };
}

function exchangeView(data, sides) {
  const node = make("section", "exchange");
  const asked = askedView();
  const grid = make("div", "answers");
  node.append(asked.node, grid);
  const view = {
    node,
    answers: [],
    wanted: 0,
    asked,
    playing: false,
    playNext() {
      while (view.answers[view.wanted] && view.answers[view.wanted].silent) view.wanted += 1;
      const next = view.answers[view.wanted];
      if (!view.playing || !next || !next.player.rate) return;
      view.wanted += 1;
      next.player.play();
    },
    firstSound() {
      if (root.dataset.firstAudioMs) return;
      root.dataset.firstAudioMs = Math.round(performance.now() - view.since);
    },
    update(data) {
      asked.update(data.asked);
      const answers = Object.values(data.answers);
      while (view.answers.length > answers.length) {
        const gone = view.answers.pop();
        gone.player.stop();
        gone.node.remove();
      }
      while (view.answers.length < answers.length) {
        const answer = answerView(answers[view.answers.length].side, view);
        view.answers.push(answer);
        grid.append(answer.node);
      }
      grid.dataset.sides = answers.length;
      answers.forEach((answer, index) => view.answers[index].update(answer));
      // Replies are made together but heard one after the other: A first, then B.
      const before = view.answers[view.wanted - 1];
      if (view.playing && (!before || before.player.ended)) view.playNext();
    },
  };
  return view;
}

function render() {
  const value = props.value || {};
  root.dataset.state = value.state || "empty";
  root.dataset.conversation = value.conversation || "";
  if (value.conversation !== shown.conversation) {
    for (const exchange of shown.exchanges) exchange.answers.forEach((answer) => answer.player.stop());
    scroll.querySelectorAll(".exchange").forEach((node) => node.remove());
    shown = { conversation: value.conversation, exchanges: [] };
  }
  const exchanges = value.exchanges || [];
  while (shown.exchanges.length > exchanges.length || shown.exchanges.some((e, i) => e.id !== exchanges[i].id)) {
    const gone = shown.exchanges.pop();
    gone.answers.forEach((answer) => answer.player.stop());
    gone.asked.stop();
    gone.node.remove();
  }
  let grew = false;
  exchanges.forEach((data, index) => {
    if (!shown.exchanges[index]) {
      const view = exchangeView(data, value.sides);
      view.id = data.id;
      view.since = askedAt;
      view.playing = !!value.autoplay && data.live;
      if (data.live) {
        delete root.dataset.firstAudioMs;
        shown.exchanges.forEach((other) => {
          other.playing = false;
          other.answers.forEach((answer) => answer.player.stop());
        });
      }
      shown.exchanges.push(view);
      scroll.append(view.node);
      grew = true;
    }
    const before = scroll.scrollHeight;
    shown.exchanges[index].update(data);
    grew = grew || scroll.scrollHeight > before;
  });
  emptyState.hidden = exchanges.length > 0;
  alertBox.hidden = !value.error;
  say(alertBox, value.error || "");
  clearInterval(ticking);
  status.hidden = !value.status;
  const since = performance.now();
  const tell = () => {
    const seconds = Math.floor((performance.now() - since) / 1000);
    say(status, (value.status || "") + (seconds >= 2 ? " " + seconds + " s" : ""));
  };
  tell();
  if (value.status) ticking = setInterval(tell, 1000);
  // The newest question stays in sight, even where its replies are taller than the stage.
  const newest = shown.exchanges[shown.exchanges.length - 1];
  if (grew && newest) scroll.scrollTop = Math.min(scroll.scrollHeight, newest.node.offsetTop - scroll.offsetTop - 16);
}

element.addEventListener("click", (event) => {
  const example = event.target.closest("[data-example]");
  if (example) trigger("example", { index: Number(example.dataset.example) });
});
// On a phone the list of topics would push the microphone out of sight.
if (window.innerWidth < 640) element.querySelector(".stage-empty details").open = false;
watch("value", render);
render();
