//go:build !linux || !cgo

package main

import (
	"context"
	"fmt"
)

var errNoCgo = fmt.Errorf("%w: this program was built without cgo, which it needs", errNoCUDA)

func runLoad(context.Context, string, int, func()) (loadResult, error) { return loadResult{}, errNoCgo }

func makeFault(string) error { return errNoCgo }
