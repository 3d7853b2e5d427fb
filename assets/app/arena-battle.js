// A battle on the page: what was asked, the players, the vote and what is still to be heard before it.

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
  arrived(answer);
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
  mark("more", battle.progress.turns_left > 0 && !battle.repeat);
  const box = make("section", "arena-card arena-battle");
  box.setAttribute("aria-label", "Battle");
  if (battle.repeat) box.append(make("p", "arena-hint", "A dialogue from earlier comes once more. Listen and vote as if it were new."));
  battle.turns.forEach((turn, index) => box.append(turnView(turn, index)));
  box.append(voteBar());
  panel.replaceChildren(box);
  battle.players.forEach((player) => player.draw());
  if (battle.turns.length > 1) box.querySelectorAll(".arena-turn")[battle.turns.length - 1].scrollIntoView({ block: "nearest" });
  showProgress(battle.progress);
  battle.active.button.focus({ preventScroll: true });
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

function choose(choice) {
  battle.chosen = choice;
  showProgress(battle.progress);
  if (!battle.progress.may_vote) speak(label(choice));
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
