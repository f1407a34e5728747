// A service that does nothing and ends at once on SIGTERM, by the default action.
//
// With -DBARE it has no libc: starting a libc costs more than starting a process (0.6 ms where a
// hypervisor traps CPUID), and that would be measured instead of whoever starts it.

#ifdef BARE
#include <sys/syscall.h>

static void wait_for_signal(void)
{
#if defined(__x86_64__)
    register long size __asm__("r8") = 0, mask __asm__("r10") = 0;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(SYS_ppoll), "D"(0), "S"(0), "d"(0), "r"(mask), "r"(size)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_ppoll;
    register long fds __asm__("x0") = 0, count __asm__("x1") = 0, timeout __asm__("x2") = 0,
                      mask __asm__("x3") = 0, size __asm__("x4") = 0;
    __asm__ volatile("svc 0"
                     : "+r"(fds)
                     : "r"(number), "r"(count), "r"(timeout), "r"(mask), "r"(size)
                     : "memory");
#else
#error "build without -DBARE"
#endif
}

void _start(void)
{
    for (;;)
        wait_for_signal();
}
#else
#include <unistd.h>

int main(void)
{
    for (;;)
        pause();
}
#endif
