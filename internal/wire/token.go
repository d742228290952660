package wire

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// EnvName is the environment variable that holds the tokens handed to a worker, joined by commas.
const EnvName = "SHMROUTER_SENDER"

// ErrToken is in the chain of every error of ParseToken and ParseTokens.
var ErrToken = errors.New("wire: malformed token")

// Token names one pipe of one run of one router. In text:
//
//	shm1:f3:00112233445566778899aabbccddeeff:1f2e3d4c5b6a7988:42:7
//	│    │  │                                │                │  └ index, decimal
//	│    │  │                                │                └ pipe id, decimal
//	│    │  │                                └ epoch, hexadecimal
//	│    │  └ identity of the segment, 32 hexadecimal digits
//	│    └ where: f and an inherited descriptor, p and a path (query-escaped), or n: nowhere outside this process
//	└ version
type Token struct {
	FD       int    // an inherited descriptor, at least 3; 0: none
	Path     string // an absolute path; "": none. With both, FD counts.
	Identity [16]byte
	Epoch    uint64 // not 0
	ID       uint64 // at most MaxID
	Index    uint32 // below MaxPipes
}

const tokenPrefix = "shm1"

// String returns the text form. It contains no comma and no space.
func (t Token) String() string {
	where := "n"
	switch {
	case t.FD != 0:
		where = "f" + strconv.Itoa(t.FD)
	case t.Path != "":
		where = "p" + url.QueryEscape(t.Path)
	}
	return fmt.Sprintf("%s:%s:%x:%x:%d:%d", tokenPrefix, where, t.Identity, t.Epoch, t.ID, t.Index)
}

// ParseToken reads the text form. Its errors wrap ErrToken and say what is wrong.
func ParseToken(s string) (t Token, err error) {
	defer func() {
		if err != nil {
			t, err = Token{}, fmt.Errorf("%w %q: %w", ErrToken, s, err)
		}
	}()
	f := strings.Split(s, ":")
	if f[0] != tokenPrefix {
		return t, fmt.Errorf("it does not begin with %s", tokenPrefix)
	}
	if len(f) != 6 {
		return t, fmt.Errorf("it has %d fields instead of 6", len(f))
	}
	if err := t.parseWhere(f[1]); err != nil {
		return t, err
	}
	identity, err := hex.DecodeString(f[2])
	if err != nil || len(identity) != len(t.Identity) {
		return t, errors.New("the segment's identity is not 32 hexadecimal digits")
	}
	copy(t.Identity[:], identity)
	if t.Epoch, err = strconv.ParseUint(f[3], 16, 64); err != nil || t.Epoch == 0 {
		return t, errors.New("the epoch is not a hexadecimal number above 0")
	}
	if t.ID, err = strconv.ParseUint(f[4], 10, 64); err != nil || t.ID > MaxID {
		return t, fmt.Errorf("the pipe's id is not a number up to %d", uint64(MaxID))
	}
	index, err := strconv.ParseUint(f[5], 10, 32)
	if err != nil || index >= MaxPipes {
		return t, fmt.Errorf("the index is not a number below %d", MaxPipes)
	}
	t.Index = uint32(index)
	return t, nil
}

func (t *Token) parseWhere(s string) (err error) {
	switch {
	case s == "n":
		return nil
	case strings.HasPrefix(s, "f"):
		if t.FD, err = strconv.Atoi(s[1:]); err != nil || t.FD < 3 || t.FD > 1<<30 {
			return errors.New("the descriptor is not a number above 2")
		}
		return nil
	case strings.HasPrefix(s, "p"):
		if t.Path, err = url.QueryUnescape(s[1:]); err != nil || !filepath.IsAbs(t.Path) || strings.ContainsRune(t.Path, 0) {
			return errors.New("the path is not an escaped absolute path")
		}
		return nil
	}
	return errors.New("it names neither a descriptor nor a path")
}

// ParseTokens reads tokens joined by commas, at least one.
func ParseTokens(s string) ([]Token, error) {
	var ts []Token
	for f := range strings.SplitSeq(s, ",") {
		t, err := ParseToken(f)
		if err != nil {
			return nil, err
		}
		ts = append(ts, t)
	}
	return ts, nil
}
