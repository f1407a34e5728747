// The least that one walk over all processes costs: list /proc, read each stat.

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    char path[300], text[4096];
    DIR *proc = opendir("/proc");
    if (!proc)
        return 1;
    for (struct dirent *entry; (entry = readdir(proc));) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            continue; // it has ended since
        if (read(file, text, sizeof text) < 0)
            text[0] = 0;
        close(file);
    }
    return 0;
}
