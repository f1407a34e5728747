// Foreign processes, listening sockets and busy cores, so that a machine is as full as wanted.
// Usage: crowd PROCESSES SOCKETS SPINNERS
//
// Says "ready PID PORT" when all are there: one of the listeners and who holds it (0 0 without
// sockets). Ends everybody it made at end-of-file on standard input or at SIGTERM, or by dying.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct hello {
    pid_t pid;
    int port; // of its last socket, 0 without
};

static int listen_somewhere(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (s < 0 || bind(s, (struct sockaddr *)&address, length) < 0 || listen(s, 1) < 0
        || getsockname(s, (struct sockaddr *)&address, &length) < 0) {
        perror("crowd: listen");
        return -1;
    }
    return ntohs(address.sin_port);
}

static void member(pid_t maker, int say, int sockets, int spin)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != maker)
        _exit(1);
    signal(SIGTERM, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    struct hello hello = {getpid(), 0};
    for (int i = 0; i < sockets; i++)
        if ((hello.port = listen_somewhere()) < 0)
            _exit(1);
    if (write(say, &hello, sizeof hello) != sizeof hello)
        _exit(1);
    close(say);
    for (volatile unsigned long turns = 0; spin; turns++)
        ;
    for (;;)
        pause();
}

static void wake(int number)
{
    (void)number;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int idle = atoi(argv[1]), sockets = atoi(argv[2]), all = idle + atoi(argv[3]), made = 0;
    int said[2], failed = 0;
    pid_t *pids = calloc(all + 1, sizeof *pids), self = getpid();
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (!pids || pipe(said) < 0)
        return 1;
    // No SA_RESTART: SIGTERM has to interrupt the read below.
    struct sigaction action = {.sa_handler = wake};
    sigaction(SIGTERM, &action, NULL);

    struct hello chosen = {0, 0};
    for (; made < all; made++) {
        int share = made < idle ? sockets / idle + (made < sockets % idle) : 0;
        pid_t pid = fork();
        if (pid < 0) {
            perror("crowd: fork");
            failed = 1;
            break;
        }
        if (pid == 0) {
            close(0);
            close(said[0]);
            member(self, said[1], share, made >= idle);
        }
        pids[made] = pid;
        struct hello hello; // one at a time, so that the pipe never fills
        if (read(said[0], &hello, sizeof hello) != sizeof hello) {
            failed = 1;
            made++;
            break;
        }
        if (hello.port && (!chosen.port || made <= idle / 2))
            chosen = hello; // from the middle: neither the first to be looked at nor the last
    }
    if (!failed) {
        char ignored[64];
        printf("ready %d %d\n", chosen.pid, chosen.port);
        fflush(stdout);
        while (read(0, ignored, sizeof ignored) > 0)
            ;
    }
    for (int i = 0; i < made; i++)
        kill(pids[i], SIGKILL); // own children, not reaped yet: the PID is theirs
    for (int i = 0; i < made; i++)
        waitpid(pids[i], NULL, 0);
    return failed;
}
