// A seeded generator (mulberry32) with the few questions asked of it.
export class Random {
  #state
  constructor(seed) {
    this.#state = seed >>> 0
  }
  next() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  // int is one of 0 … below-1.
  int(below) {
    return Math.floor(this.next() * below)
  }
  pick(list) {
    return list[this.int(list.length)]
  }
  // choose takes [[weight, value], …].
  choose(options) {
    let at = this.next() * options.reduce((sum, [weight]) => sum + weight, 0)
    for (const [weight, value] of options) if ((at -= weight) < 0) return value
    return options.at(-1)[1]
  }
  weighted(options) {
    return this.choose(options)()
  }
}
