package main

import (
	"context"
	"encoding/binary"
	"log"
	"net/rpc"
	"os"

	"github.com/hashicorp/go-plugin"

	"github.com/shmrouter/shmrouter/sender"
)

const chunkSize = 256 << 10

var handshake = plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "SHMROUTER_EXAMPLE", MagicCookieValue: "plugin"}

// servePlugin is the plugin's main function.
func servePlugin() {
	err := sender.Main(func(ctx context.Context, s *sender.Sender) error {
		// The plugin ends with its host, also if that is killed. By itself it would at its next line of the log, by
		// SIGPIPE.
		stop := context.AfterFunc(ctx, func() { os.Exit(1) })
		defer stop()
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig: handshake,
			Plugins:         plugin.PluginSet{"source": &sourcePlugin{&source{ctx: ctx, s: s}}},
		})
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}

// sourcePlugin is what go-plugin wants to know.
type sourcePlugin struct{ impl *source }

func (p *sourcePlugin) Server(*plugin.MuxBroker) (any, error) { return p.impl, nil }

func (*sourcePlugin) Client(_ *plugin.MuxBroker, c *rpc.Client) (any, error) { return c, nil }

// source is what the plugin offers by net/rpc.
type source struct {
	ctx  context.Context
	s    *sender.Sender
	read uint64 // words
}

func (p *source) PID(_ int, pid *int) error {
	*pid = os.Getpid()
	return nil
}

// Read returns the next n bytes in the answer to the call.
func (p *source) Read(n int, chunk *[]byte) error {
	*chunk = make([]byte, n)
	p.read = fill(*chunk, p.read)
	return nil
}

// Stream sends mb MiB from the beginning through the ring, made where the host's router takes them from.
func (p *source) Stream(mb int, _ *struct{}) error {
	word := uint64(0)
	for range mb << 20 / chunkSize {
		err := p.s.WriteFunc(p.ctx, chunkSize, func(b []byte) (int, error) {
			word = fill(b, word)
			return len(b), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fill makes data that differ everywhere, and cost little.
func fill(b []byte, word uint64) uint64 {
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], word*0x9e3779b97f4a7c15)
		word++
	}
	return word
}
