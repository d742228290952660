package main

import (
	"time"

	"github.com/ebitengine/purego"
)

// The functions of GLib that are used, with C's types as Go has them: guint is uint32, gboolean bool, pointers uintptr.
var (
	gMainLoopNew  func(context uintptr, running bool) (loop uintptr)
	gMainLoopRun  func(loop uintptr)
	gMainLoopQuit func(loop uintptr)
	gUnixFDAdd    func(fd int32, condition uint32, f, data uintptr) (source uint32)
	gTimeoutAdd   func(milliseconds uint32, f, data uintptr) (source uint32)
	gSourceRemove func(source uint32) bool
)

func loadGLib() error {
	lib, err := purego.Dlopen("libglib-2.0.so.0", purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return err
	}
	for name, f := range map[string]any{
		"g_main_loop_new":  &gMainLoopNew,
		"g_main_loop_run":  &gMainLoopRun,
		"g_main_loop_quit": &gMainLoopQuit,
		"g_unix_fd_add":    &gUnixFDAdd,
		"g_timeout_add":    &gTimeoutAdd,
		"g_source_remove":  &gSourceRemove,
	} {
		purego.RegisterLibFunc(f, lib, name)
	}
	return nil
}

const (
	gIOIn           = 1
	gSourceContinue = 1
)

// watch has GLib's loop call f whenever fd is readable. The callback stays for good: there are few of them.
func watch(fd int, f func()) (source uint32) {
	callback := purego.NewCallback(func(_ int32, _ uint32, _ uintptr) uintptr { // gboolean (gint, GIOCondition, gpointer)
		f()
		return gSourceContinue
	})
	return gUnixFDAdd(int32(fd), gIOIn, callback, 0)
}

func every(d time.Duration, f func()) (source uint32) {
	callback := purego.NewCallback(func(_ uintptr) uintptr {
		f()
		return gSourceContinue
	})
	return gTimeoutAdd(uint32(d.Milliseconds()), callback, 0)
}
