module github.com/pintle/pintle/examples/bench/storeload

go 1.26.6
