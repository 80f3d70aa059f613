//! Files that come with the release: requirements, and layouts that are meant for them.

/// Requirements, by name.
pub const PLANS: [(&str, &str); 1] = [("reference", include_str!("../presets/reference.toml"))];

/// Layouts, by name.
pub const LAYOUTS: [(&str, &str); 1] = [(
    "reference-as-drawn",
    include_str!("../presets/reference-as-drawn.toml"),
)];

/// The text of a preset among `presets`; else the names that there are.
pub fn text(presets: &[(&'static str, &'static str)], name: &str) -> Result<&'static str, String> {
    let found = presets.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text).ok_or_else(|| {
        let names: Vec<&str> = presets.iter().map(|(known, _)| *known).collect();
        format!("there is no preset '{name}': use {}", names.join(" or "))
    })
}
