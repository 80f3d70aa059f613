/* Preloaded, makes every sync of a file take SYNC_MS milliseconds more, as on a cloud's disk:
 * cc -shared -fPIC -o slow_sync.so slow_sync.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static int slowly(const char *name, int file)
{
    const char *text = getenv("SYNC_MS");
    double ms = text ? atof(text) : 1;
    struct timespec wait = {ms / 1000, (long)(ms * 1e6) % 1000000000L};
    nanosleep(&wait, NULL);
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return sync(file);
}

int fsync(int file) { return slowly("fsync", file); }
int fdatasync(int file) { return slowly("fdatasync", file); }
