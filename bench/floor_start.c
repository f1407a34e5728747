// The least that a start of N services costs: fork, setsid, exec, each with its log opened and
// its PID file written. No health, no record, no lock, no gate: what is lost if this dies is lost.
// Usage: floor_start FOLDER N PROGRAM    (FOLDER/pids and FOLDER/logs exist)

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void die(const char *what)
{
    perror(what);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int count = atoi(argv[2]);
    char *command[] = {argv[3], NULL};
    char path[4096], text[32];
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0)
        die("/dev/null");

    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/logs/s%05d.log", argv[1], i);
        int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (log < 0)
            die(path);
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid == 0) {
            setsid();
            dup2(null, 0);
            dup2(log, 1);
            dup2(log, 2);
            execv(command[0], command);
            _exit(127);
        }
        close(log);

        snprintf(path, sizeof path, "%s/pids/s%05d.pid", argv[1], i);
        int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        int length = snprintf(text, sizeof text, "%d\n", pid);
        if (file < 0 || write(file, text, length) != length)
            die(path);
        close(file);
    }
    return 0;
}
