// Code that runs in the browser: shortcuts, focus, dragging, the link and the theme.
const nextsong = {
  keepTheme(name) {
    document.cookie = `nextsong_theme=${name}; path=/; max-age=31536000; samesite=strict`;
  },

  setLink(link) {
    history.replaceState(history.state, "", link);
    // Links to other pages get the query of this page, so that they keep the playlist.
    for (const anchor of document.querySelectorAll("a.nav-link, a.brand")) {
      anchor.href = anchor.pathname + new URL(location.href).search;
    }
  },

  async copyLink() {
    try {
      await navigator.clipboard.writeText(location.href);
      Quasar.Notify.create({ message: "Link copied", color: "primary", timeout: 1500 });
    } catch {
      window.prompt("Copy this link", location.href); // without TLS, there is no clipboard
    }
  },

  showHelp() {
    const help = document.getElementById("shortcuts");
    if (help) help.open ? help.close() : help.showModal();
  },

  focusRow(index) {
    // The server updates the rows after this call, so wait for the next frame.
    requestAnimationFrame(() => document.querySelector(`[data-row="${index}"]`)?.focus());
  },

  async makeSortable(id) {
    const { Sortable } = await import("nicegui-sortable");
    Sortable.create(getElement(id).$el ?? getElement(id), {
      handle: ".handle",
      animation: 150,
      onEnd({ item, from, oldIndex, newIndex }) {
        // The rows keep their order, and the server fills them with the new order of the songs.
        item.remove();
        from.insertBefore(item, from.children[oldIndex] ?? null);
        from.dispatchEvent(new CustomEvent("sortend", { detail: { from: oldIndex, to: newIndex } }));
      },
    });
  },

  moveInSuggestions(step) {
    const buttons = [...document.querySelectorAll("button[data-suggestion]")].filter(
      (button) => button.offsetParent,
    );
    const current = buttons.indexOf(document.activeElement);
    const target = buttons[Math.max(0, Math.min(buttons.length - 1, current + step))];
    target?.focus();
    target?.scrollIntoView({ block: "nearest" });
  },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, textarea, select, [contenteditable], [role=slider]")) return;
  const actions = {
    "/": () => document.querySelector(".search input")?.focus(),
    "?": () => nextsong.showHelp(),
    j: () => nextsong.moveInSuggestions(1),
    k: () => nextsong.moveInSuggestions(-1),
  };
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  }
});
