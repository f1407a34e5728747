// The least that a stop of N services costs: read each PID file, open a pidfd, read
// /proc/PID/stat, signal, await all with epoll, remove the files. No family, no proof that nobody
// is left, no escalation.
// Usage: floor_stop FOLDER N

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int read_file(const char *path, char *text, int size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    int length = read(file, text, size - 1);
    close(file);
    if (length >= 0)
        text[length] = 0;
    return length;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int count = atoi(argv[2]);
    char path[4096], text[4096];
    int *pidfds = calloc(count, sizeof *pidfds);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    if (!pidfds || poll < 0)
        die("epoll_create1");

    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/pids/s%05d.pid", argv[1], i);
        if (read_file(path, text, sizeof text) <= 0)
            die(path);
        int pid = atoi(text);
        if (pid < 2)
            die(path);
        pidfds[i] = syscall(SYS_pidfd_open, pid, 0);
        if (pidfds[i] < 0)
            die("pidfd_open");
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        if (read_file(path, text, sizeof text) <= 0)
            die(path);
    }
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, pidfds[i], &event) < 0)
            die("epoll_ctl");
        if (syscall(SYS_pidfd_send_signal, pidfds[i], SIGTERM, NULL, 0) < 0 && errno != ESRCH)
            die("pidfd_send_signal");
    }
    for (int left = count; left > 0;) {
        struct epoll_event events[64];
        int ready = epoll_wait(poll, events, 64, -1);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < ready; i++, left--)
            close(pidfds[events[i].data.u32]); // also leaves the epoll set
    }
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/pids/s%05d.pid", argv[1], i);
        unlink(path);
    }
    return 0;
}
