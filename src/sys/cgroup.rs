//! Who manages a process? Its control groups (/proc/PID/cgroup of cgroups(7), v1 and v2) name the
//! container or the systemd unit that would start it again, or break, if it were killed.

use crate::sys::manager::{Manager, Runtime, is_container_id};

/// Who manages the process of that /proc/PID/cgroup and `comm`, seen from pidctl with its `own`
/// text. None: nobody but its parent, or the same manager as pidctl's own.
pub fn managed(cgroup: &str, own: &str, comm: &str) -> Option<Manager> {
    if comm == "docker-proxy" {
        return Some(Manager::DockerProxy);
    }
    let pairs = || {
        memberships(cgroup).map(|(hierarchy, path)| {
            let own = memberships(own).find(|(other, _)| *other == hierarchy);
            (hierarchy, path, own.map_or("", |(_, path)| path))
        })
    };
    // A unit inside a container is not known to the systemd outside, so containers come first.
    pairs()
        .find_map(|(_, path, own)| container(path, own))
        .or_else(|| {
            pairs()
                .filter(|(hierarchy, ..)| matches!(*hierarchy, "" | "name=systemd"))
                .find_map(|(_, path, own)| service(path, own, comm))
        })
}

/// (hierarchy, path) of each line `number:hierarchy:path`; v2's hierarchy is empty.
fn memberships(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let (hierarchy, path) = line.split_once(':')?.1.split_once(':')?;
        Some((hierarchy, path.strip_suffix(" (deleted)").unwrap_or(path)))
    })
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

/// The outermost container on the path that pidctl is not in as well.
fn container(path: &str, own: &str) -> Option<Manager> {
    let (path, own) = (parts(path), parts(own));
    (0..path.len()).find_map(|at| {
        let (outer, name) = (path.get(..at)?, path.get(at)?);
        let (runtime, id) = container_named(outer, name)?;
        (!own.starts_with(path.get(..=at)?)).then(|| Manager::Container {
            runtime,
            // systemd writes `-` within a name as `\x2d`.
            id: id.replace(r"\x2d", "-"),
        })
    })
}

/// Whose container a part of a path names, by the runtimes' own conventions.
fn container_named<'a>(outer: &[&str], name: &'a str) -> Option<(Runtime, &'a str)> {
    let parent = outer.last().copied().unwrap_or_default();
    if let Some(id) = name.strip_prefix("lxc.payload.") {
        return Some((Runtime::Lxc, id));
    }
    if matches!(parent, "lxc" | "lxc.payload") {
        return Some((Runtime::Lxc, name));
    }
    let scope = name.strip_suffix(".scope");
    if let Some(id) = scope.and_then(|scope| scope.strip_prefix("machine-")) {
        return Some((Runtime::Machine, id));
    }
    if let Some(id) = name.strip_prefix("systemd-nspawn@") {
        return Some((Runtime::Machine, id.strip_suffix(".service")?));
    }
    // `docker-ID.scope` where systemd makes the groups, else `libpod-ID` or a bare ID.
    let plain = scope.unwrap_or(name);
    let (prefix, id) = plain.rsplit_once('-').unwrap_or(("", plain));
    if !is_container_id(id) {
        return None;
    }
    let runtime = if outer.iter().any(|part| part.contains("kubepods")) {
        Runtime::Kubernetes
    } else {
        match (prefix, parent) {
            ("docker", _) | ("", "docker") => Runtime::Docker,
            ("libpod", _) => Runtime::Podman,
            ("crio" | "cri-containerd", _) => Runtime::Kubernetes,
            ("nerdctl", _) | ("", "default") => Runtime::Containerd,
            // conmon watches the container, from outside.
            ("libpod-conmon" | "crio-conmon", _) => return None,
            _ => Runtime::Unknown,
        }
    };
    Some((runtime, id))
}

/// The innermost service on the path, unless pidctl is in it as well; of systemd itself, which
/// listens for services that are yet to be started, a socket unit.
fn service(path: &str, own: &str, comm: &str) -> Option<Manager> {
    let (path, own) = (parts(path), parts(own));
    if comm == "systemd" && path.last() == Some(&"init.scope") {
        let by_user = path.len() > 1;
        return Some(Manager::SocketUnit { by_user });
    }
    let at = path.iter().rposition(|part| part.ends_with(".service"))?;
    let unit = *path.get(at)?;
    let by_user = path.get(..at)?.iter().any(|part| part.starts_with("user@"));
    if own.starts_with(path.get(..=at)?) || merely_spawned(unit, by_user, comm) {
        return None;
    }
    let unit = unit.to_owned();
    Some(if by_user {
        Manager::UserUnit(unit)
    } else {
        Manager::Unit(unit)
    })
}

/// Services that start what others ask for and leave it in their own control group, each with the
/// comm of the service itself. A program that a cron job started is not managed by cron.service,
/// and `systemctl stop cron.service` would end every other job as well.
const SPAWNERS: &[(&str, &str)] = &[
    ("cron", "cron"),
    ("crond", "crond"),
    ("cronie", "crond"),
    ("fcron", "fcron"),
    ("anacron", "anacron"),
    ("atd", "atd"),
    ("ssh", "sshd"),
    ("sshd", "sshd"),
    ("dropbear", "dropbear"),
    ("xrdp-sesman", "xrdp"),
    ("getty", "agetty"),
    ("serial-getty", "agetty"),
    ("console-getty", "agetty"),
    ("container-getty", "agetty"),
    ("autovt", "agetty"),
    ("debug-shell", "systemd"),
    ("gdm", "gdm"),
    ("gdm3", "gdm"),
    ("sddm", "sddm"),
    ("lightdm", "lightdm"),
    ("greetd", "greetd"),
    ("rc-local", "systemd"),
    ("cloud-init", "cloud-init"),
    ("cloud-final", "cloud-init"),
    ("dbus", "dbus-daemon"),
    ("dbus-broker", "dbus-broker"),
    ("gnome-terminal-server", "gnome-terminal"),
    ("tmux", "tmux"),
    ("screen", "screen"),
    // The user's own systemd: what is in no service of it is in a scope, which a terminal made.
    ("user", "systemd"),
];

fn merely_spawned(unit: &str, by_user: bool, comm: &str) -> bool {
    let name = unit.strip_suffix(".service").unwrap_or(unit);
    // Of `sshd@3-192.0.2.1:22-….service` the part before the instance.
    let name = name.split('@').next().unwrap_or(name);
    // Desktops start each application, terminals too, as `app-….service`.
    if by_user && name.starts_with("app-") {
        return true;
    }
    SPAWNERS
        .iter()
        .any(|(spawner, itself)| name == *spawner && !comm.starts_with(itself))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const SHELL: &str = "0::/user.slice/user-1000.slice/session-3.scope\n";

    /// Of a path in v2, seen from a login shell.
    fn v2(path: &str) -> Option<Manager> {
        managed(&format!("0::{path}\n"), SHELL, "server")
    }

    fn unit(name: &str) -> Option<Manager> {
        Some(Manager::Unit(name.to_owned()))
    }

    fn user_unit(name: &str) -> Option<Manager> {
        Some(Manager::UserUnit(name.to_owned()))
    }

    fn container(runtime: Runtime, id: &str) -> Option<Manager> {
        let id = id.to_owned();
        Some(Manager::Container { runtime, id })
    }

    #[test]
    fn services_of_the_system_and_of_a_user() {
        let user = "/user.slice/user-1000.slice/user@1000.service";
        assert_eq!(v2("/system.slice/nginx.service"), unit("nginx.service"));
        assert_eq!(
            v2("/system.slice/system-pg.slice/pg@16.service/worker"),
            unit("pg@16.service")
        );
        assert_eq!(v2("/system.slice/a.service (deleted)"), unit("a.service"));
        assert_eq!(
            v2(&format!("{user}/app.slice/foo.service")),
            user_unit("foo.service")
        );
        // A user's programs outside services: terminals, sessions, applications of the desktop.
        assert_eq!(v2(&format!("{user}/app.slice/vte-spawn-1.scope")), None);
        assert_eq!(
            v2(&format!(
                "{user}/app.slice/app-org.kde.konsole@1f.service/tab(7).scope"
            )),
            None
        );
        assert_eq!(v2(&format!("{user}/init.scope")), None);
        assert_eq!(v2("/user.slice/user-1000.slice/session-4.scope"), None);
        for path in [
            "/",
            "",
            "/init.scope",
            "/../..",
            "/system.slice",
            "/.service-like/x",
        ] {
            assert_eq!(v2(path), None, "{path}");
        }
    }

    #[test]
    fn version_1_names_the_unit_in_systemd_s_hierarchy() {
        let text = "12:cpu,cpuacct:/other.service\n3:name=systemd:/system.slice/a.service\n0::/\n";
        assert_eq!(
            managed(text, "3:name=systemd:/\n0::/\n", "a"),
            unit("a.service")
        );
        assert_eq!(managed(text, text, "a"), None);
        assert_eq!(managed("12:cpu,cpuacct:/other.service\n", "", "a"), None);
    }

    #[test]
    fn peers_of_pidctl_are_not_managed() {
        let same = "0::/system.slice/runner.service\n";
        let below = "0::/system.slice/runner.service/job\n";
        assert_eq!(managed(same, same, "x"), None);
        assert_eq!(managed(below, same, "x"), None);
        assert_eq!(managed(same, below, "x"), None);
        assert_eq!(
            managed(same, "0::/system.slice/run.service\n", "x"),
            unit("runner.service")
        );
        let inside = format!("0::/system.slice/docker-{ID}.scope\n");
        assert_eq!(managed(&inside, &inside, "x"), None);
        // The container's own systemd, without a namespace that hides the path.
        let service = format!("0::/machine.slice/libpod-{ID}.scope/system.slice/a.service\n");
        let shell = format!("0::/machine.slice/libpod-{ID}.scope/init.scope\n");
        assert_eq!(managed(&service, &shell, "x"), unit("a.service"));
        assert_eq!(
            managed(&service, SHELL, "x"),
            container(Runtime::Podman, ID)
        );
        // A container within pidctl's own.
        let nested = format!(
            "0::/system.slice/docker-{ID}.scope/docker/{}\n",
            ID.replace('0', "f")
        );
        assert_eq!(
            managed(&nested, &inside, "x"),
            container(Runtime::Docker, &ID.replace('0', "f"))
        );
    }

    #[test]
    fn containers_by_the_names_of_their_groups() {
        for (path, runtime, id) in [
            (
                format!("/system.slice/docker-{ID}.scope"),
                Runtime::Docker,
                ID,
            ),
            (format!("/docker/{ID}"), Runtime::Docker, ID),
            (
                format!("/docker/{ID}/system.slice/a.service"),
                Runtime::Docker,
                ID,
            ),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container"
                ),
                Runtime::Podman,
                ID,
            ),
            (format!("/libpod_parent/libpod-{ID}"), Runtime::Podman, ID),
            (
                format!("/kubepods/burstable/podab-cd/{ID}"),
                Runtime::Kubernetes,
                ID,
            ),
            (
                format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
                Runtime::Kubernetes,
                ID,
            ),
            (
                format!("/kubepods.slice/docker-{ID}.scope"),
                Runtime::Kubernetes,
                ID,
            ),
            (
                format!("/system.slice/nerdctl-{ID}.scope"),
                Runtime::Containerd,
                ID,
            ),
            (format!("/default/{ID}"), Runtime::Containerd, ID),
            (format!("/../{ID}"), Runtime::Unknown, ID),
            (
                "/lxc/101/ns/system.slice/a.service".into(),
                Runtime::Lxc,
                "101",
            ),
            (
                "/lxc.payload.web/system.slice/a.service".into(),
                Runtime::Lxc,
                "web",
            ),
            (
                r"/machine.slice/machine-my\x2dweb.scope".into(),
                Runtime::Machine,
                "my-web",
            ),
            (
                "/machine.slice/systemd-nspawn@web.service/payload/system.slice/a.service".into(),
                Runtime::Machine,
                "web",
            ),
        ] {
            assert_eq!(v2(&path), container(runtime, id), "{path}");
        }
        assert_eq!(
            managed(
                &format!("9:name=systemd:/\n4:memory:/docker/{ID}\n0::/\n"),
                SHELL,
                "x"
            ),
            container(Runtime::Docker, ID)
        );
        for path in [
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/docker/{}", &ID[1..]),
            "/lxc.monitor.web".into(),
        ] {
            assert_eq!(v2(&path), None, "{path}");
        }
    }

    #[test]
    fn a_spawner_manages_itself_and_not_what_it_spawned() {
        let of = |unit: &str, comm| managed(&format!("0::/system.slice/{unit}\n"), SHELL, comm);
        assert_eq!(of("cron.service", "python3"), None);
        assert_eq!(of("sshd@3-192.0.2.1:22-192.0.2.7:5.service", "node"), None);
        assert_eq!(of("ssh.service", "sshd"), unit("ssh.service"));
        assert_eq!(of("ssh.service", "sshd-session"), unit("ssh.service"));
        assert_eq!(of("crony.service", "python3"), unit("crony.service"));
        // A system's service may be named like a desktop's application.
        assert_eq!(of("app-server.service", "node"), unit("app-server.service"));
    }

    #[test]
    fn docker_proxy_and_systemd_hold_ports_for_others() {
        let docker = "0::/system.slice/docker.service\n";
        assert_eq!(
            managed(docker, SHELL, "docker-proxy"),
            Some(Manager::DockerProxy)
        );
        assert_eq!(
            managed(docker, docker, "docker-proxy"),
            Some(Manager::DockerProxy)
        );
        assert_eq!(managed(docker, SHELL, "dockerd"), unit("docker.service"));
        let by_user = false;
        assert_eq!(
            managed("0::/init.scope\n", SHELL, "systemd"),
            Some(Manager::SocketUnit { by_user })
        );
    }

    #[test]
    fn garbage_is_nobody() {
        for text in ["", "\n", "::", "0:", "0::", "x", "0::é\n:::", "\0"] {
            assert_eq!(managed(text, SHELL, "x"), None, "{text:?}");
            assert_eq!(managed(text, text, ""), None, "{text:?}");
        }
    }
}
