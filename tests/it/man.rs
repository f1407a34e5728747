//! `man`: a page for pidctl and for each command, which man(1) can show.

use std::path::Path;

use crate::support::TestEnv;

#[test]
fn every_command_has_a_page_with_its_options_and_exit_codes() {
    let env = TestEnv::new();
    let help = env.ok(&["--help"]).stdout;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() > 8, "{help}");
    for command in commands {
        let page = env.ok(&["man", command]).stdout;
        let title = format!(".TH PIDCTL-{} 1", command.to_uppercase());
        for part in [
            &title,
            ".SH SYNOPSIS",
            ".SH \"EXIT STATUS\"",
            "PIDCTL_CONFIG",
        ] {
            assert!(page.contains(part), "{command}: no {part}");
        }
    }
    assert!(env.ok(&["man", "status"]).stdout.contains("150"));
    let page = env.ok(&["man"]).stdout;
    for part in [".TH PIDCTL 1", "services.toml", "start_all*"] {
        assert!(page.contains(part), "no {part}");
    }
    assert!(
        env.ok(&["man", "export", "systemd"])
            .stdout
            .contains("\\-\\-user")
    );
}

#[test]
fn a_page_can_be_shown() {
    let man = Path::new("/usr/bin/man");
    if !man.exists() {
        return;
    }
    let env = TestEnv::new();
    env.write("start.1", env.ok(&["man", "start"]).stdout);
    let call = env
        .program(man)
        .args(&["--warnings", "-l", &env.at("start.1")]);
    let output = call
        .env("MANWIDTH", "100")
        .env("MANPAGER", "cat")
        .run()
        .expect(0);
    assert!(output.stdout.contains("--no-deps"), "{output}");
    assert_eq!(output.stderr, "", "{output}");
}

#[test]
fn an_unknown_command_is_answered_with_the_nearest() {
    let env = TestEnv::new();
    env.run(&["man", "strat"])
        .expect(2)
        .expect_said("\"start\"");
    env.run(&["man", "start", "x"]).expect(2);
}
