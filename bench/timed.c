// Runs a command and says what it cost. A small program does the timing, because the peak memory
// of a child of python would begin at python's own.
// Usage: timed FD PID COMMAND [ARGUMENT]…
//
// Writes to FD: "NANOSECONDS PEAK_KIB STATUS AFTER": from fork to exit, the peak, the wait status,
// and, where PID is not 0, the nanoseconds from that process's exit to the command's (else -1).

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    int say = atoi(argv[1]), other = atoi(argv[2]), status;
    if (fcntl(say, F_SETFD, FD_CLOEXEC) < 0)
        die("timed: FD");
    struct pollfd ends[2] = {{.fd = -1, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    if (other && (ends[0].fd = syscall(SYS_pidfd_open, other, 0)) < 0)
        die("timed: pidfd_open");

    long long begin = now(), end = 0, other_end = 0;
    pid_t pid = fork();
    if (pid < 0)
        die("timed: fork");
    if (pid == 0) {
        execvp(argv[3], argv + 3);
        _exit(127);
    }
    struct rusage usage;
    if (!other) {
        if (wait4(pid, &status, 0, &usage) != pid)
            die("timed: wait4");
        end = now();
    } else {
        if ((ends[1].fd = syscall(SYS_pidfd_open, pid, 0)) < 0)
            die("timed: pidfd_open");
        while (!end) {
            if (poll(ends, 2, -1) < 0 && errno != EINTR)
                die("timed: poll");
            long long time = now();
            if (ends[0].fd >= 0 && ends[0].revents) {
                other_end = time;
                ends[0].fd = -1;
            }
            if (ends[1].revents)
                end = time;
        }
        if (wait4(pid, &status, 0, &usage) != pid)
            die("timed: wait4");
    }
    dprintf(say, "%lld %ld %d %lld\n", end - begin, usage.ru_maxrss, status,
            other_end ? end - other_end : -1);
    return 0;
}
