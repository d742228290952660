package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// screen is a terminal that is drawn on as a whole. What the terminal was like before comes back with leave.
type screen struct {
	out    *os.File
	in     *os.File // nil: there are no keys
	before *unix.Termios
	colour bool
}

// Sequences that every terminal of the last decades knows.
const (
	enterSequence = "\x1b[?1049h\x1b[?25l" // the other screen, without a cursor
	leaveSequence = "\x1b[0m\x1b[?25h\x1b[?1049l"
	homeSequence  = "\x1b[H"
	endOfLine     = "\x1b[K"
	endOfScreen   = "\x1b[J"
)

// ink is a colour of the terminal's own palette, which fits light and dark.
type ink string

const (
	plain  ink = ""
	good   ink = "32"
	warn   ink = "33"
	bad    ink = "31"
	strong ink = "7" // reversed
)

// line is a line of the screen.
type line struct {
	text string
	ink  ink
}

// newScreen returns nil where there is no screen to draw on: output that is no terminal, or a dumb one.
func newScreen(in, out *os.File) *screen {
	if _, err := unix.IoctlGetTermios(int(out.Fd()), unix.TCGETS); err != nil || os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" {
		return nil
	}
	s := &screen{out: out, colour: os.Getenv("NO_COLOR") == ""}
	if _, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS); err == nil {
		s.in = in
	}
	return s
}

// enter takes the terminal over. Keys come at once and are not shown; those that send signals go on doing so.
func (s *screen) enter() error {
	if s.in != nil {
		t, err := unix.IoctlGetTermios(int(s.in.Fd()), unix.TCGETS)
		if err != nil {
			return os.NewSyscallError("ioctl", err)
		}
		before := *t
		t.Lflag &^= unix.ICANON | unix.ECHO
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		if err := unix.IoctlSetTermios(int(s.in.Fd()), unix.TCSETS, t); err != nil {
			return os.NewSyscallError("ioctl", err)
		}
		s.before = &before
	}
	_, err := s.out.WriteString(enterSequence)
	return err
}

// leave gives the terminal back. It may be called twice.
func (s *screen) leave() {
	if s.before != nil {
		s.out.WriteString(leaveSequence)
		unix.IoctlSetTermios(int(s.in.Fd()), unix.TCSETS, s.before)
		s.before = nil
	} else if s.in == nil {
		s.out.WriteString(leaveSequence)
	}
}

// size returns columns and rows, 80 and 24 where the terminal does not say.
func (s *screen) size() (columns, rows int) {
	w, err := unix.IoctlGetWinsize(int(s.out.Fd()), unix.TIOCGWINSZ)
	if err != nil || w.Col == 0 || w.Row == 0 {
		return 80, 24
	}
	return int(w.Col), int(w.Row)
}

// draw writes a whole picture at once. No line is longer than the screen is wide, and there is none too many.
func (s *screen) draw(lines []line) error {
	columns, rows := s.size()
	var b strings.Builder
	b.WriteString(homeSequence)
	for i, l := range lines[:min(len(lines), rows)] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		text := []rune(l.text)
		text = text[:min(len(text), columns)]
		if s.colour && l.ink != plain {
			fmt.Fprintf(&b, "\x1b[%sm%s\x1b[0m", l.ink, string(text))
		} else {
			b.WriteString(string(text))
		}
		if len(text) < columns { // in the last column it would erase the last character
			b.WriteString(endOfLine)
		}
	}
	b.WriteString(endOfScreen)
	_, err := s.out.WriteString(b.String())
	return err
}

// keys delivers what is typed. Sequences, as of arrow keys, come as their last letter behind an escape.
func (s *screen) keys() <-chan string {
	typed := make(chan string)
	if s.in == nil {
		return typed
	}
	go func() {
		defer close(typed)
		r := bufio.NewReader(s.in)
		for {
			c, _, err := r.ReadRune()
			if err != nil {
				return
			}
			key := string(c)
			for c == 0x1b && r.Buffered() > 0 {
				last, _, err := r.ReadRune()
				if err != nil {
					return
				}
				if last >= 'A' && last <= 'Z' || last == '~' {
					key = "\x1b" + string(last)
					break
				}
			}
			typed <- key
		}
	}()
	return typed
}
