// Command controlplane is the orchestrator alone with its TLS port, as a vendor's program would run it.
//
//	controlplane DATADIR
//
// It prints the microseconds from New to Ready.
package main

import (
	"log"
	"os"
	"strconv"
	"time"

	"github.com/pintle/pintle/examples/bench/subject/parent"
	"github.com/pintle/pintle/orchestrator"
)

func main() {
	begin := time.Now()
	o, err := orchestrator.New(orchestrator.Config{DataDir: os.Args[1], Address: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	if err := parent.Serve(o.Run, o.Ready(), func() string {
		return strconv.FormatInt(time.Since(begin).Microseconds(), 10)
	}); err != nil {
		log.Fatal(err)
	}
}
