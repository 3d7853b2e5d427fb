// The first visit: consent in plain words, and whether anything can be heard.

const LEVELS = [
  ["publish", "Use and publish",
    "My votes count on the board. My votes and recordings may train and study models, and may be published in an open dataset, without a name."],
  ["research", "Use, do not publish",
    "My votes count on the board. My votes and recordings may train and study models by whoever runs this workbench. They are not published."],
  ["nothing", "Use nothing",
    "I only want to try it. My votes do not count; nothing of mine is shown, exported or learnt from, and it is deleted within hours."],
];

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
    ["About you", me.about],
    ["Where it goes", me.where],
    ["Erase", "“Erase my data” below this page removes all of it, recordings included, at any time. Copies of a published dataset that others made cannot be called back."],
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
