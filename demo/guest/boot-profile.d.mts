/** Types of boot-profile.mjs for the tests. */
export function provideBootProfile(): Promise<string>;
export class TouchedUnits {
  constructor(size: number);
  note(offset: number, length: number): void;
  runs(): [offset: number, length: number][];
}
