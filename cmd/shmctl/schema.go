package main

import (
	"embed"
	"fmt"
	"io"
	"strings"

	"github.com/shmrouter/shmrouter/shm"
)

//go:embed schema/*.json
var schemas embed.FS

var ownNamespace = shm.PIDNamespace()

type schemaCmd struct {
	Name string `arg:"" enum:"list,stat,dump,check,prune" help:"A command: list, stat, dump, check or prune."`
}

// Run prints the schema.
func (c *schemaCmd) Run(e *env) error {
	b, err := schemas.ReadFile(fmt.Sprintf("schema/%s.json", c.Name))
	if err != nil {
		return err
	}
	_, err = io.Copy(e.stdout, strings.NewReader(string(b)))
	return err
}
