// Conformance is what a log must do for franz-go. It prints one line for each case: `ok NAME` or `failed NAME: WHY`.
//
// Arguments: the bootstrap address, and the home it belongs to: `embedded` or `kafka`.
package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// As many cases run at a time: most of them wait most of their time.
const atOnce = 6

// A program that runs longer hangs.
const hangsAfter = 3 * time.Minute

// A testCase is a named thing to do, which fails with an error.
type testCase struct {
	name string
	run  func(*lab) error
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: conformance BOOTSTRAP embedded|kafka")
		os.Exit(64)
	}
	cases := append(groupCases(), recordCases()...)
	cases = append(cases, topicCases()...)
	cases = append(cases, limitCases(os.Args[2] == "kafka")...)

	lab := newLab(os.Args[1])
	// Nothing is said of a case that hangs, which is how it fails.
	time.AfterFunc(hangsAfter, func() { os.Exit(1) })
	var printing sync.Mutex
	var running sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for _, one := range cases {
		free <- struct{}{}
		running.Add(1)
		go func() {
			defer running.Done()
			err := one.run(lab)
			<-free
			printing.Lock()
			defer printing.Unlock()
			if err == nil {
				fmt.Println("ok " + one.name)
				return
			}
			why := strings.ReplaceAll(err.Error(), "\n", " ")
			fmt.Printf("failed %s: %s\n", one.name, why)
		}()
	}
	running.Wait()
}
