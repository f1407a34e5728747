use super::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

struct Test {
    dir: tempfile::TempDir,
    follower: Follower,
}

impl Test {
    fn new() -> Test {
        Test {
            dir: tempfile::tempdir().unwrap(),
            follower: Follower::new().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn follow(&mut self, name: &str) {
        let path = self.path(name);
        self.follower.add(&path, Position::End).unwrap();
    }

    fn append(&self, name: &str, bytes: &[u8]) {
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .append(true)
            .open(self.path(name))
            .unwrap();
        file.write_all(bytes).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// What is to be read now.
    fn drain(&mut self) -> String {
        let mut text = String::new();
        let mut more = Drained::More;
        while more == Drained::More {
            let piece = |index: usize, bytes: &[u8]| {
                text += &format!("{index}:{}", String::from_utf8_lossy(bytes));
            };
            more = self.follower.drain(piece).unwrap();
        }
        text
    }

    /// Waits for the kernel to wake the follower, as its user would, and drains it.
    fn wake(&mut self) -> String {
        let mut fds = [PollFd::new(self.follower.as_fd(), PollFlags::POLLIN)];
        let woken = poll(&mut fds, PollTimeout::from(20_000u16)).unwrap();
        assert_eq!(woken, 1, "the follower is not woken");
        self.drain()
    }
}

#[test]
fn complete_lines_of_several_logs_as_they_come() {
    let mut test = Test::new();
    test.append("a.log", b"before\n");
    test.follow("a.log");
    test.follow("b.log");
    assert_eq!(test.drain(), "");
    test.append("a.log", b"one\ntwo\nthr");
    assert_eq!(test.wake(), "0:one\n0:two\n");
    test.append("b.log", b"other\n");
    assert_eq!(test.wake(), "1:other\n");
    test.append("a.log", b"ee\n");
    assert_eq!(test.wake(), "0:three\n");
}

#[test]
fn begins_where_it_is_told_to() {
    let mut test = Test::new();
    test.append("a.log", b"old\nnew\n");
    let path = test.path("a.log");
    test.follower.add(&path, Position::At(4)).unwrap();
    assert_eq!(test.drain(), "0:new\n");
}

#[test]
fn an_unfinished_line_is_given_on_demand_and_goes_on() {
    let mut test = Test::new();
    test.follow("a.log");
    test.append("a.log", b"Password: ");
    assert_eq!(test.wake(), "");
    let mut given = Vec::new();
    test.follower
        .flush(|_, bytes| given.extend_from_slice(bytes));
    assert_eq!(given, b"Password: ");
    test.append("a.log", b"no\n");
    assert_eq!(test.wake(), "0:no\n");
}

#[test]
fn through_rotation() {
    let mut test = Test::new();
    test.append("a.log", b"");
    test.follow("a.log");
    test.append("a.log", b"one\nunfinished");
    test.rename("a.log", "a.log.1");
    test.append("a.log", b"two\n");
    assert_eq!(test.wake(), "0:one\n0:unfinished0:\n0:two\n");
    test.append("a.log", b"three\n");
    assert_eq!(test.wake(), "0:three\n");
}

#[test]
fn what_is_still_written_under_the_new_name_is_not_lost() {
    let mut test = Test::new();
    test.follow("a.log");
    test.append("a.log", b"one\n");
    assert_eq!(test.wake(), "0:one\n");
    test.rename("a.log", "a.log.1");
    test.append("a.log.1", b"two\n");
    assert_eq!(test.wake(), "0:two\n");
    test.append("a.log.1", b"three\n");
    test.append("a.log", b"four\n");
    assert_eq!(test.wake(), "0:three\n0:four\n");
}

#[test]
fn through_two_rotations_between_two_looks() {
    let mut test = Test::new();
    test.append("a.log.1", b"long ago\n");
    test.append("a.log", b"");
    test.follow("a.log");
    assert_eq!(test.drain(), "");
    test.append("a.log", b"one\n");
    for text in ["two\n", "three\n"] {
        test.rename("a.log.1", "a.log.2");
        test.rename("a.log", "a.log.1");
        test.append("a.log", text.as_bytes());
    }
    assert_eq!(test.wake(), "0:one\n0:two\n0:three\n");
}

#[test]
fn through_deletion_and_a_new_file_whatever_was_set_aside_before() {
    let mut test = Test::new();
    test.append("a.log.1", b"long ago\n");
    test.append("a.log", b"one\n");
    test.follow("a.log");
    fs::remove_file(test.path("a.log")).unwrap();
    assert_eq!(test.wake(), "");
    test.append("a.log", b"two\n");
    assert_eq!(test.wake(), "0:two\n");
}

#[test]
fn through_truncation() {
    let mut test = Test::new();
    test.append("a.log", b"a long line from before\n");
    test.follow("a.log");
    fs::write(test.path("a.log"), b"anew\n").unwrap();
    assert_eq!(test.wake(), "0:anew\n");
}

#[test]
fn a_folder_that_comes_later_and_goes_and_comes_again() {
    let mut test = Test::new();
    test.follow("x/y/a.log");
    assert_eq!(test.drain(), "");
    for text in ["one\n", "two\n", "three\n"] {
        fs::create_dir_all(test.path("x/y")).unwrap();
        test.append("x/y/a.log", text.as_bytes());
        assert_eq!(test.wake(), format!("0:{text}"));
        fs::remove_dir_all(test.path("x")).unwrap();
        assert_eq!(test.wake(), "");
    }
    fs::create_dir(test.path("x")).unwrap();
    assert_eq!(test.wake(), "");
    fs::create_dir(test.path("x/y")).unwrap();
    assert_eq!(test.wake(), "");
    test.append("x/y/a.log", b"four\n");
    assert_eq!(test.wake(), "0:four\n");
}

#[test]
fn a_folder_that_is_moved_away_and_one_that_is_the_other_s_parent() {
    let mut test = Test::new();
    fs::create_dir(test.path("logs")).unwrap();
    test.follow("logs/a.log");
    test.follow("b.log");
    test.append("logs/a.log", b"one\n");
    test.append("b.log", b"one\n");
    assert_eq!(test.wake(), "0:one\n1:one\n");
    test.rename("logs", "old");
    fs::create_dir(test.path("logs")).unwrap();
    test.append("logs/a.log", b"two\n");
    assert_eq!(test.wake(), "0:two\n");
    test.append("b.log", b"two\n");
    assert_eq!(test.wake(), "1:two\n");
}

#[test]
fn a_folder_in_one_that_may_be_passed_but_not_read() {
    let mut test = Test::new();
    fs::create_dir_all(test.path("home/logs")).unwrap();
    fs::set_permissions(test.path("home"), fs::Permissions::from_mode(0o311)).unwrap();
    test.follow("home/logs/a.log");
    test.append("home/logs/a.log", b"one\n");
    assert_eq!(test.wake(), "0:one\n");
    fs::set_permissions(test.path("home"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn one_that_writes_without_end_starves_nobody_and_takes_no_memory() {
    let mut test = Test::new();
    test.follow("a.log");
    test.follow("b.log");
    let line = [&[b'x'; 99][..], b"\n"].concat();
    test.append("a.log", &line.repeat(200_000));
    test.append("b.log", b"quiet\n");
    let (mut first, mut quiet) = (0, false);
    let more = test.follower.drain(|index, bytes| match index {
        0 => first += bytes.len(),
        _ => quiet = bytes == b"quiet\n",
    });
    assert_eq!(more.unwrap(), Drained::More);
    assert!(quiet && first <= BLOCK);
    assert_eq!(test.drain().len(), 200_000 * 102 - first / 100 * 102);
    assert_eq!(test.follower.block.capacity(), BLOCK);
}

#[test]
fn a_line_without_an_end_comes_in_pieces() {
    let mut test = Test::new();
    test.follow("a.log");
    test.append("a.log", &vec![b'x'; 3 * BLOCK]);
    test.append("a.log", b"end\n");
    let mut pieces = Vec::new();
    while test
        .follower
        .drain(|_, bytes| pieces.push(bytes.len()))
        .unwrap()
        == Drained::More
    {}
    assert_eq!(pieces, [BLOCK, BLOCK, BLOCK, 4]);
}

#[test]
fn what_is_no_log_is_told_once_and_a_log_in_its_place_is_followed() {
    let mut test = Test::new();
    mkfifo(&test.path("a.log"), Mode::S_IRWXU).unwrap();
    test.follow("a.log");
    assert_eq!(test.drain(), "");
    assert_eq!(test.drain(), "");
    let troubles = test.follower.take_troubles();
    assert_eq!(troubles.len(), 1);
    assert!(troubles[0].1.to_string().contains("a.log: is a FIFO"));
    fs::remove_file(test.path("a.log")).unwrap();
    test.append("a.log", b"one\n");
    assert_eq!(test.wake(), "0:one\n");
}
