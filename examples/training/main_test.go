package main

import "testing"

// The run survives the loss of a node, and what it learned is right.
func TestTheTrainingRunSurvivesTheLossOfANode(t *testing.T) {
	if err := run(t.Context(), true); err != nil {
		t.Fatal(err)
	}
}
