// After the vote: undo, two taps and a reason, who was who.

const VERDICTS = {
  3: "You found A much better.",
  2: "You found A better.",
  1: "You found A slightly better.",
  0: "You heard no difference.",
  "-1": "You found B slightly better.",
  "-2": "You found B better.",
  "-3": "You found B much better.",
  both_bad: "You found both bad.",
};

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
  const words = make("p", "arena-lead", VERDICTS[shown.choice] || "");
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
