/** What the page asks of a passphrase that is to protect a disk. A disk of elsewhere may have any. */

/** Characters. Less is tried out in no time, whatever the key derivation. */
export const MINIMUM_LENGTH = 8;

/** The name of a field in a passphrase form. */
export type FieldName = 'current' | 'next' | 'repeat';

export type PassphraseValues = Readonly<Partial<Record<FieldName, string>>>;

export interface Complaint {
  readonly field: FieldName;
  readonly text: string;
}

/** What is wrong with what was typed, fields that the form does not have left out; null for nothing. */
export function complaintAbout({ current, next, repeat }: PassphraseValues): Complaint | null {
  if (current === '') return { field: 'current', text: 'Type the passphrase first.' };
  if (next === undefined) return null;
  // By code points: an emoji is one character to who types it.
  const length = [...next].length;
  if (length < MINIMUM_LENGTH) {
    const text = `At least ${MINIMUM_LENGTH} characters, please: ${length === 0 ? 'there are none yet' : `these are ${length}`}.`;
    return { field: 'next', text };
  }
  if (next === current) return { field: 'next', text: 'That is the passphrase it has now.' };
  return repeat === next ? null : { field: 'repeat', text: 'The two are not the same.' };
}
