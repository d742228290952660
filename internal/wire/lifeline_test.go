package wire

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLifelineVar(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	v, err := LifelineVar(r, 7)
	require.NoError(t, err)
	text, found := strings.CutPrefix(v, EnvLifeline+"=")
	require.True(t, found)
	fd, inode, err := ParseLifeline(text)
	require.NoError(t, err)
	require.Equal(t, 7, fd)
	require.NotZero(t, inode)
	for _, bad := range []string{"", ":", "7", "7:", ":9", "2:9", "-7:9", "7:-9", "7:x", "x:9", "7:9:1", "4294967296:1"} {
		_, _, err := ParseLifeline(bad)
		require.Error(t, err, bad)
	}
}
