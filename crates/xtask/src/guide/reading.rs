//! Command lines out of the guide's text.

/// What stands in the guide's `bash` blocks: one line per command, without comments, each once, in
/// the order of the guide.
pub fn commands(guide: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut is_inside = false;
    let mut open = String::new();
    for line in guide.lines() {
        if line.trim_start().starts_with("```") {
            is_inside = line.trim() == "```bash";
            continue;
        }
        let line = without_comment(line.trim());
        if !is_inside || line.is_empty() {
            continue;
        }
        open.push_str(line.trim_end_matches('\\').trim_end());
        if line.ends_with('\\') {
            open.push(' ');
            continue;
        }
        let command = without_names(&std::mem::take(&mut open));
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    commands
}

fn without_comment(line: &str) -> &str {
    if line.starts_with('#') {
        return "";
    }
    line.split("  #").next().unwrap_or(line).trim_end()
}

/// The addresses and hosts in the guide are somebody's: they stay there.
fn without_names(command: &str) -> String {
    let word = |word: &str| -> String {
        if let Some((user, _)) = word.split_once('@').filter(|(_, host)| is_address(host)) {
            return format!("{user}@ADDRESS");
        }
        if let Some(rest) = word.strip_prefix("https://") {
            let path = rest.split_once('/').map_or("", |(_, path)| path);
            return format!("https://HOST/{path}");
        }
        if is_address(word) { "ADDRESS".to_owned() } else { word.to_owned() }
    };
    command.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[test]
    fn commands_are_joined_stripped_and_told_once() {
        assert_eq!(commands("```bash\nssh me@192.0.2.1\n```"), ["ssh me@ADDRESS"]);
        let guide = "text\n```bash\n# one\nls -l \\\n   /tmp   # comment\n\nls -l /tmp\n```\n\
                     ```yaml\na: b\n```\n";
        assert_eq!(commands(guide), ["ls -l /tmp"]);
    }
}
