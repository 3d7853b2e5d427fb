// Below the page: counts, the rater's own votes, and erasing everything.

function showFoot() {
  const counts = make("span", "arena-counts",
    (me.today === 1 ? "1 battle today" : me.today + " battles today") + " · " + (me.votes === 1 ? "1 vote of yours" : me.votes + " votes of yours"));
  const links = make("span", "arena-links");
  if (me.consent !== null) {
    links.append(
      button("My votes", "arena-plain", () => (drawer.dataset.open === "mine" ? shut() : showMine())),
      ...footLinks(),
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
    arrived(answer);
    openDrawer("erase", make("p", "", answer.words), button("Close", "arena-plain", shut));
    erased();
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
