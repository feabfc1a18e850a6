/** What the demo's forms say about passphrases before anything is done with them. */
import { describe, expect, it } from 'vitest';
import { complaintAbout, MINIMUM_LENGTH } from '../../demo/src/passphrase-rules.js';

const GOOD = 'several words';

describe('a passphrase form', () => {
  it('takes any passphrase for a disk that is there, but none is no passphrase', () => {
    expect(complaintAbout({ current: 'x' })).toBeNull();
    expect(complaintAbout({ current: ' ' })).toBeNull();
    expect(complaintAbout({ current: '' })).toMatchObject({ field: 'current' });
  });

  it('takes a new one that is long enough and was typed twice', () => {
    expect(complaintAbout({ next: GOOD, repeat: GOOD })).toBeNull();
    expect(complaintAbout({ current: 'old', next: GOOD, repeat: GOOD })).toBeNull();
    const shortest = 'x'.repeat(MINIMUM_LENGTH);
    expect(complaintAbout({ next: shortest, repeat: shortest })).toBeNull();
  });

  it('says what is wrong with a new one, and at which field', () => {
    expect(complaintAbout({ next: '', repeat: '' })).toEqual({
      field: 'next',
      text: 'At least 8 characters, please: there are none yet.',
    });
    expect(complaintAbout({ next: 'seven77', repeat: 'seven77' })).toEqual({
      field: 'next',
      text: 'At least 8 characters, please: these are 7.',
    });
    expect(complaintAbout({ next: GOOD, repeat: `${GOOD} ` })).toEqual({
      field: 'repeat',
      text: 'The two are not the same.',
    });
    expect(complaintAbout({ current: GOOD, next: GOOD, repeat: GOOD })).toMatchObject({ field: 'next' });
  });

  it('counts characters as who types them does', () => {
    const keys = '🔑'.repeat(MINIMUM_LENGTH);
    expect(complaintAbout({ next: keys, repeat: keys })).toBeNull();
    expect(complaintAbout({ next: '🔑'.repeat(4), repeat: '🔑'.repeat(4) })?.text).toContain('these are 4');
  });

  it('has nothing to say where nothing is asked', () => {
    expect(complaintAbout({})).toBeNull();
  });
});
